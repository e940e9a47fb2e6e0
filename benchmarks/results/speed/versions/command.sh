#!/usr/bin/env bash
set -eu
mkdir -p results/speed/versions
python benchmarks/versions.py --before 76a26f4 --turns 1 --json results/speed/versions/table.json
