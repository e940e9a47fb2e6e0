#!/usr/bin/env bash
set -eu
mkdir -p results/speed/compiled
python benchmarks/compiled.py --encoder vit-b-32 --layers 3 --turns 7 --json results/speed/compiled/table.json
