#!/usr/bin/env bash
set -eu
mkdir -p results/speed/vit-b-32-cpu
python benchmarks/speed.py --encoder vit-b-32 --items 2000 --users 2000 --repeats 3 --json results/speed/vit-b-32-cpu/table.json --plot results/speed/vit-b-32-cpu/chart.png
