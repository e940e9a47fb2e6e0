#!/usr/bin/env bash
set -eu
mkdir -p results/speed/memory
python benchmarks/large_catalogue.py --json results/speed/memory/table.json
