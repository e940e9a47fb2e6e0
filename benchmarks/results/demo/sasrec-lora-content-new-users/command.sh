#!/usr/bin/env bash
set -eu
# Recorded when batches_per_encoding was 1: add batches_per_encoding=1 to --for_perpeft.
python benchmarks/new_users.py --dataset demo --seeds 2020 2021 --share 0.1 --variants "coherence" "global PEFT" "coherence, trained on them" \
  --out results/demo/sasrec-lora-content-new-users
