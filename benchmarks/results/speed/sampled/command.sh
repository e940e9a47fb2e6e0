#!/usr/bin/env bash
set -eu
mkdir -p results/speed/sampled
python benchmarks/sampled.py --threads 1 --predict_users 200 --json results/speed/sampled/table.json
