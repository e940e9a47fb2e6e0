#!/usr/bin/env bash
set -eu
# Recorded when batches_per_encoding was 1: add batches_per_encoding=1 to --for_perpeft.
python -m recbole_perpeft compare --dataset demo --variants perpeft global_peft frozen content_neighbours --seeds 2020 2021 2022 --jobs 1 \
  --out results/demo/sasrec-lora-content
