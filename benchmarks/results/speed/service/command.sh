#!/usr/bin/env bash
set -eu
mkdir -p results/speed/service
python benchmarks/service.py --starts 2 --json results/speed/service/table.json
