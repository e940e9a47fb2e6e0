#!/usr/bin/env bash
set -eu
python -m recbole_perpeft compare --dataset demo --variants frozen_groups frozen --seeds 2020 2021 2022 --jobs 1 --out results/demo/sasrec-frozen-groups
