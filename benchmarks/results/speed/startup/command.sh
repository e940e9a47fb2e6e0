#!/usr/bin/env bash
set -eu
mkdir -p results/speed/startup
python benchmarks/startup.py --json results/speed/startup/table.json
