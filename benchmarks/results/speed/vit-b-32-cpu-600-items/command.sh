#!/usr/bin/env bash
set -eu
mkdir -p results/speed/vit-b-32-cpu-600-items
python benchmarks/speed.py --encoder vit-b-32 --items 600 --users 600 --repeats 2 --json results/speed/vit-b-32-cpu-600-items/table.json
