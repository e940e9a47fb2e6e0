#!/usr/bin/env bash
set -eu
python benchmarks/new_users.py --dataset demo --seeds 2020 2021 --share 0.1 --jobs 2 --variants likeness "global PEFT" --out results/demo/sasrec-lora-new-users-by-likeness
