#!/usr/bin/env bash
set -eu
# at commit bbc7d98: group_sharing is gone since
python benchmarks/backbones.py --dataset demo --peft LORA --seeds 2020 2021 2022 2023 2024 --backbones LightGCN --out results/demo/backbones-lora \
  --for_perpeft batches_per_encoding=4 group_sharing=0.3
