#!/usr/bin/env bash
set -eu
python -m recbole_perpeft compare --dataset demo --variants perpeft large_global_peft global_peft --peft LORA --out results/demo/sasrec-lora-large-global
