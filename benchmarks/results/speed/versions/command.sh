#!/usr/bin/env bash
set -eu
mkdir -p results/speed/versions
python benchmarks/versions.py --before 76a26f4 --seeds 2020 2021 2022 2023 2024 --json results/speed/versions/table.json
