#!/usr/bin/env bash
set -eu
# Recorded when content_term, purchase_term and soft_groups were not there, group_negatives was on, correct_sampling off, averaging_epochs ~ and batches_per_encoding 1: add
# content_term=False purchase_term=False soft_groups=False group_negatives=True correct_sampling=False averaging_epochs=~ batches_per_encoding=1 to --for_perpeft, but for what it sets.
form=benchmarks/settings/iisan
python -m recbole_perpeft compare --dataset demo --variants $form/normalised.yaml $form/authors.yaml --seeds 2020 2021 2022 --jobs 6 --out results/demo/sasrec-iisan-forms
