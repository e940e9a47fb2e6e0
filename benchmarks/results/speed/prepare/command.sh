#!/usr/bin/env bash
set -eu
mkdir -p results/speed/prepare
python benchmarks/prepare.py --turns 2 --json results/speed/prepare/table.json
