#!/usr/bin/env bash
set -eu
mkdir -p results/speed/estimate
python benchmarks/estimate.py --large benchmarks/results/speed/memory/table.json --json results/speed/estimate/table.json
