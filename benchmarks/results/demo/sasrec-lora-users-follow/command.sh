#!/usr/bin/env bash
set -eu
python -m recbole_perpeft compare --dataset demo --variants perpeft global_peft frozen frozen_groups neighbours content_neighbours --seeds 2020 2021 2022 2023 2024 --jobs 2 \
  --out results/demo/sasrec-lora-users-follow
