#!/usr/bin/env bash
set -eu
: "${POSTERS:?folder of posters named by item id}" "${VIT:?folder of a ViT-Tiny}" "${MINILM:?folder of a MiniLM}"
of=benchmarks/settings/ml-100k
python -m recbole_perpeft compare --dataset ml-100k --peft IISAN --variants perpeft frozen $of/ids-all-negatives.yaml neighbours content_neighbours \
  --seeds 2020 2021 --jobs 1 --eval_batch_size=4096 --eval_step=2 --out results/ml-100k/sasrec-iisan-purchases \
  --for_perpeft image_encoder=$VIT text_encoder=$MINILM image_dir=$POSTERS
