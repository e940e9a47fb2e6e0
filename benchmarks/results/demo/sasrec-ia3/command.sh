#!/usr/bin/env bash
set -eu
python -m recbole_perpeft compare --dataset demo --variants perpeft global_peft frozen without_multimodal --peft IA3 \
  --seeds 2020 2021 2022 --out results/demo/sasrec-ia3
