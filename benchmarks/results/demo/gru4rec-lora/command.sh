#!/usr/bin/env bash
set -eu
python benchmarks/backbones.py --dataset demo --peft LORA --seeds 2020 2021 2022 2023 2024 --backbones GRU4Rec --out results/demo/backbones-lora
