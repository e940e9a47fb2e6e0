#!/usr/bin/env bash
set -eu
# Recorded when content_term and soft_groups were not there, correct_sampling was off, averaging_epochs ~ and batches_per_encoding 1: add
# content_term=False soft_groups=False correct_sampling=False averaging_epochs=~ batches_per_encoding=1 to --for_perpeft, but for what it sets.
python benchmarks/backbones.py --dataset demo --peft LORA --seeds 2020 2021 2022 2023 2024 --backbones GRU4Rec --out results/demo/backbones-lora
