#!/usr/bin/env bash
set -eu
# Recorded when purchase_term was not there, group_negatives was on and batches_per_encoding 1: add purchase_term=False group_negatives=True
# batches_per_encoding=1 to --for_perpeft.
python benchmarks/new_users.py --dataset demo --seeds 2020 2021 --share 0.1 --variants "coherence" "global PEFT" "coherence, trained on them" \
  --out results/demo/sasrec-lora-content-new-users
