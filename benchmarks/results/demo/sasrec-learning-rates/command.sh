#!/usr/bin/env bash
set -eu
# Recorded when content_term, purchase_term and soft_groups were not there, group_negatives was on, correct_sampling off, averaging_epochs ~ and batches_per_encoding 1: add
# content_term=False purchase_term=False soft_groups=False group_negatives=True correct_sampling=False averaging_epochs=~ batches_per_encoding=1 to --for_perpeft, but for what it sets.
for rate in 0.001 0.002 0.004; do
  python -m recbole_perpeft compare --dataset demo --peft LORA --seeds 2020 2021 2022 2023 2024 --variants frozen --out results/demo/sasrec-learning-rates/frozen-$rate \
    --for_perpeft averaging_epochs=3 epochs=80 global_epochs=32 learning_rate=$rate
done
for peft in LORA IA3 IISAN; do
  for rate in 0.0005 0.002 0.008; do
    python -m recbole_perpeft compare --dataset demo --peft $peft --seeds 2020 2021 2022 2023 2024 --variants global_peft --out results/demo/sasrec-learning-rates/$peft-$rate \
      --for_perpeft averaging_epochs=3 epochs=80 global_epochs=32 peft_learning_rate=$rate iisan_form=normalised
  done
done
