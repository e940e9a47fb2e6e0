#!/usr/bin/env bash
set -eu
mkdir -p results/speed/processes
python benchmarks/processes.py --turns 2 --json results/speed/processes/table.json
