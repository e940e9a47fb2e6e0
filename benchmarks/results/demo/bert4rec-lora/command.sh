#!/usr/bin/env bash
set -eu
# Recorded when content_term, purchase_term and soft_groups were not there, group_negatives was on, correct_sampling off, averaging_epochs ~ and batches_per_encoding 1: add
# content_term=False purchase_term=False soft_groups=False group_negatives=True correct_sampling=False averaging_epochs=~ batches_per_encoding=1 to --for_perpeft, but for what it sets.
python benchmarks/backbones.py --dataset demo --peft LORA --seeds 2020 2021 2022 2023 2024 --backbones BERT4Rec --out results/demo/backbones-lora \
  --initializer_range=0.1 --for_perpeft mask_ratio=0.4 hidden_dropout_prob=0 attn_dropout_prob=0 prefixes_per_user=4 \
  batches_per_encoding=8 epochs=70 global_epochs=40 regroup_epochs=4 stopping_step=25
