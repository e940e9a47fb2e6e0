#!/usr/bin/env bash
set -eu
form=benchmarks/settings/iisan
python -m recbole_perpeft compare --dataset demo --variants $form/normalised.yaml $form/authors.yaml --seeds 2020 2021 2022 --jobs 6 --out results/demo/sasrec-iisan-forms
