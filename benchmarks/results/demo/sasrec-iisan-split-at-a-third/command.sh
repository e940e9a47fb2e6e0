#!/usr/bin/env bash
set -eu
# Recorded when content_term and soft_groups were not there, correct_sampling was off, averaging_epochs ~ and batches_per_encoding 1: add
# content_term=False soft_groups=False correct_sampling=False averaging_epochs=~ batches_per_encoding=1 to --for_perpeft, but for what it sets.
python -m recbole_perpeft compare --dataset demo --peft IISAN --seeds 2020 2021 2022 2023 2024 \
  --variants perpeft global_peft frozen --out results/demo/sasrec-iisan-split-at-a-third \
  --for_perpeft averaging_epochs=3 epochs=80 iisan_form=normalised
