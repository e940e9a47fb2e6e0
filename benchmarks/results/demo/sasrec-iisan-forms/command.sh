#!/usr/bin/env bash
set -eu
# Recorded when content_term and soft_groups were not there, correct_sampling was off, averaging_epochs ~ and batches_per_encoding 1: add
# content_term=False soft_groups=False correct_sampling=False averaging_epochs=~ batches_per_encoding=1 to --for_perpeft, but for what it sets.
form=benchmarks/settings/iisan
python -m recbole_perpeft compare --dataset demo --variants $form/normalised.yaml $form/authors.yaml --seeds 2020 2021 2022 --jobs 6 --out results/demo/sasrec-iisan-forms
