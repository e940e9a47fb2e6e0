#!/usr/bin/env bash
set -eu
: "${DATASETS:?folder of atomic data sets, amazon-scientific among them}" "${MINILM:?folder of a MiniLM}"
python -m recbole_perpeft compare --dataset amazon-scientific --data_path=$DATASETS --peft IISAN --variants frozen perpeft neighbours content_neighbours global_peft --seeds 2020 2021 2022 --jobs 2 \
  --eval_batch_size=4096 --eval_step=2 --out results/amazon-scientific/sasrec-iisan-one-prior --for_perpeft text_encoder=$MINILM max_text_length=32
