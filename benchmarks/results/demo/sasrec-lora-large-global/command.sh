#!/usr/bin/env bash
set -eu
# Recorded when content_term and soft_groups were not there, correct_sampling was off, averaging_epochs ~ and batches_per_encoding 1: add
# content_term=False soft_groups=False correct_sampling=False averaging_epochs=~ batches_per_encoding=1 to --for_perpeft, but for what it sets.
python -m recbole_perpeft compare --dataset demo --variants perpeft large_global_peft global_peft --peft LORA --out results/demo/sasrec-lora-large-global
