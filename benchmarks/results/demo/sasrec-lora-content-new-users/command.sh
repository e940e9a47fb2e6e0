#!/usr/bin/env bash
set -eu
python benchmarks/new_users.py --dataset demo --seeds 2020 2021 --share 0.1 --variants "coherence" "global PEFT" "coherence, trained on them" \
  --out results/demo/sasrec-lora-content-new-users
