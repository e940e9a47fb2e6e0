#!/usr/bin/env bash
set -eu
mkdir -p results/speed/index
python benchmarks/index.py --threads 1 --json results/speed/index/table.json
