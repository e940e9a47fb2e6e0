#!/usr/bin/env bash
set -eu
# Recorded when content_term, purchase_term and soft_groups were not there, group_negatives was on, correct_sampling off, averaging_epochs ~ and batches_per_encoding 1: add
# content_term=False purchase_term=False soft_groups=False group_negatives=True correct_sampling=False averaging_epochs=~ batches_per_encoding=1 to --for_perpeft, but for what it sets.
python -m recbole_perpeft compare --dataset demo --peft IISAN --seeds 2020 2021 2022 --out results/demo/sasrec-iisan --variants perpeft \
  without_regrouping global_peft frozen kmeans_groups random_groups benchmarks/settings/demo/without_group_negatives.yaml without_text without_image \
  group_projectors group_vectors user_projectors user_vectors --for_perpeft iisan_form=normalised
