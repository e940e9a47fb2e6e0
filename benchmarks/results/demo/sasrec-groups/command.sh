#!/usr/bin/env bash
set -eu
python benchmarks/groups.py --seeds 2020 2021 2022 --peft_type=NONE
