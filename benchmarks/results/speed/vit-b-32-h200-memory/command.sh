#!/usr/bin/env bash
set -eu
mkdir -p results/speed/vit-b-32-h200-memory
python benchmarks/speed.py --encoder vit-b-32 --items 15701 --users 25363 --device cuda --whole_epoch --repeats 3 --windows 5 --json results/speed/vit-b-32-h200-memory/table.json --plot results/speed/vit-b-32-h200-memory/chart.png
