#!/usr/bin/env bash
set -eu
# Recorded when content_term, purchase_term and soft_groups were not there, group_negatives was on, correct_sampling off, averaging_epochs ~ and batches_per_encoding 1: add
# content_term=False purchase_term=False soft_groups=False group_negatives=True correct_sampling=False averaging_epochs=~ batches_per_encoding=1 to --for_perpeft, but for what it sets.
python -m recbole_perpeft compare --dataset demo --peft LORA --seeds 2020 2021 2022 2023 2024 \
  --variants perpeft global_peft frozen without_multimodal --out results/demo/sasrec-lora-to-the-end \
  --for_perpeft averaging_epochs=3 epochs=80 global_epochs=32
