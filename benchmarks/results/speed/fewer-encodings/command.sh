#!/usr/bin/env bash
set -eu
: "${DATASETS:?folder of atomic data sets, amazon-scientific among them}" "${MINILM:?folder of a MiniLM}"
mkdir -p results/speed/fewer-encodings
python benchmarks/ablation.py --dataset=amazon-scientific --seeds 2020 2021 --out results/speed/fewer-encodings/amazon.json \
  --ways defaults "defaults+128 users per batch" "defaults+256 users per batch" "defaults+32 negatives" \
  --set data_path="$DATASETS" text_encoder="$MINILM" max_text_length=32 MAX_ITEM_LIST_LENGTH=10 user_sample=2000 peft_layers=1 num_groups=1 epochs=10
python benchmarks/ablation.py --seeds 2020 --out results/speed/fewer-encodings/demo.json \
  --ways defaults "defaults+128 users per batch" "defaults+256 users per batch" "defaults+32 negatives"
