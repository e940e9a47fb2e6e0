#!/usr/bin/env bash
set -eu
mkdir -p results/speed/memory
python benchmarks/large_catalogue.py --modalities text \
    --sizes 1000000x100x8 10000x100x8 100000x100x8 10000x100x1 10000x100x64 \
    --json results/speed/memory/table.json --plot results/speed/memory/chart.png
