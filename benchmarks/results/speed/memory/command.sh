#!/usr/bin/env bash
set -eu
mkdir -p results/speed/memory
files="--json results/speed/memory/table.json --plot results/speed/memory/chart.png"
python benchmarks/large_catalogue.py --modalities text --sizes 10000x100x8 100000x100x8 10000x100x1 10000x100x64 1000000x100x8 $files
python benchmarks/large_catalogue.py --modalities text --untested --sizes 1000000x100000x8 100000x100000x8 $files -- \
    --users_per_batch=256 --epochs=1 --global_epochs=0 --soft_groups=False
