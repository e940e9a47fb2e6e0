#!/usr/bin/env bash
set -eu
# Recorded when l2_emb was 0.1 and all items were encoded: add --for_perpeft l2_emb=0.1 batches_per_encoding=8.
# The row perpeft of the table is regrouped here, for its users moved then, and without_regrouping is perpeft.
python -m recbole_perpeft compare --dataset demo --variants regrouped global_peft frozen neighbours content_neighbours perpeft --seeds 2020 2021 2022 --jobs 1 \
  --out results/demo/sasrec-lora-groups-by-likeness
