#!/usr/bin/env bash
set -eu
for rate in 0.002 0.004; do
  python benchmarks/ceiling.py --seeds 2020 2021 2022 2023 2024 --learning_rate=$rate --averaging_epochs=3 --epochs=80 --global_epochs=16
done
