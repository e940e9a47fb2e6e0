#!/usr/bin/env bash
set -eu
: "${POSTERS:?folder of posters named by item id}" "${VIT:?folder of a ViT-Tiny}" "${MINILM:?folder of a MiniLM}"
of=benchmarks/settings/ml-100k
python -m recbole_perpeft compare --dataset ml-100k --variants frozen $of/frozen-stride-1.yaml --seeds 2020 --jobs 1 --epochs=8 --eval_batch_size=4096 \
  --out results/ml-100k/sasrec-frozen-stride --for_perpeft image_encoder=$VIT text_encoder=$MINILM image_dir=$POSTERS
