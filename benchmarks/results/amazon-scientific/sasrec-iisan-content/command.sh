#!/usr/bin/env bash
set -eu
# Recorded when purchase_term was not there and group_negatives was on: add purchase_term=False group_negatives=True to --for_perpeft.
: "${DATASETS:?folder of atomic data sets, amazon-scientific among them}" "${MINILM:?folder of a MiniLM}"
python -m recbole_perpeft compare --dataset amazon-scientific --data_path=$DATASETS --peft IISAN --variants perpeft global_peft frozen content_neighbours --seeds 2020 2021 --jobs 1 \
  --eval_batch_size=4096 --eval_step=2 --out results/amazon-scientific/sasrec-iisan-content --for_perpeft text_encoder=$MINILM max_text_length=32
