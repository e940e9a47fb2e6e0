#!/usr/bin/env bash
set -eu
python benchmarks/new_users.py --dataset demo --seeds 2020 2021 2022 2023 2024 --out results/demo/sasrec-lora-new-users --jobs 8 \
  --variants "coherence, regrouped" "global PEFT" coherence "kmeans, regrouped" kmeans random
