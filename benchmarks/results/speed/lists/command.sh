#!/usr/bin/env bash
set -eu
mkdir -p results/speed/lists
python benchmarks/lists.py --threads 1 --json results/speed/lists/table.json
