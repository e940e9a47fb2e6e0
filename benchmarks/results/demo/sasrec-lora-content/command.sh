#!/usr/bin/env bash
set -eu
# Recorded when purchase_term was not there and group_negatives was on: add purchase_term=False group_negatives=True to --for_perpeft.
python -m recbole_perpeft compare --dataset demo --variants perpeft global_peft frozen content_neighbours --seeds 2020 2021 2022 2023 2024 --jobs 1 \
  --out results/demo/sasrec-lora-content
