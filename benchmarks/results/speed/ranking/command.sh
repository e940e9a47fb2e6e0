#!/usr/bin/env bash
set -eu
mkdir -p results/speed/ranking
python benchmarks/ranking.py --threads 2 --hidden 32 --json results/speed/ranking/cpu.json
python benchmarks/ranking.py --device cuda --hidden 32 --json results/speed/ranking/cuda.json
