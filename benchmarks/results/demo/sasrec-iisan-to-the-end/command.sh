#!/usr/bin/env bash
set -eu
python -m recbole_perpeft compare --dataset demo --peft IISAN --seeds 2020 2021 2022 2023 2024 \
  --variants perpeft global_peft frozen without_multimodal --out results/demo/sasrec-iisan-to-the-end \
  --for_perpeft averaging_epochs=3 epochs=80 global_epochs=32 iisan_form=normalised
