#!/usr/bin/env bash
set -eu
# Recorded when l2_emb was 0.1.
: "${DATASETS:?folder of atomic data sets, amazon-scientific among them}" "${MINILM:?folder of a MiniLM}"
python -m recbole_perpeft compare --dataset amazon-scientific --data_path=$DATASETS --peft IISAN --variants perpeft global_peft frozen neighbours content_neighbours --seeds 2020 2021 --jobs 1 \
  --eval_batch_size=4096 --eval_step=2 --out results/amazon-scientific/sasrec-iisan-purchases --for_perpeft text_encoder=$MINILM max_text_length=32 l2_emb=0.1
