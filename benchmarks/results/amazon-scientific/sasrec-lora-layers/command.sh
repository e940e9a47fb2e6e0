#!/usr/bin/env bash
set -eu
# Recorded when content_term, purchase_term and soft_groups were not there, group_negatives was on, correct_sampling off, averaging_epochs ~ and batches_per_encoding 1: add
# content_term=False purchase_term=False soft_groups=False group_negatives=True correct_sampling=False averaging_epochs=~ batches_per_encoding=1 to --for_perpeft, but for what it sets.
: "${DATASETS:?folder of atomic data sets, amazon-scientific among them}" "${MINILM:?folder of a MiniLM}"
mkdir -p results/amazon-scientific/sasrec-lora-layers
python benchmarks/ablation.py --dataset=amazon-scientific --seeds 2020 2021 --out results/amazon-scientific/sasrec-lora-layers/amazon.json \
  --ways "all layers" "top three layers only" "top two layers only" "top layer only" \
  --set data_path="$DATASETS" text_encoder="$MINILM" max_text_length=32 user_sample=400 num_groups=4 epochs=6 global_epochs=4 \
  users_per_batch=32 MAX_ITEM_LIST_LENGTH=10 l2_emb=0.000001 'regroup_epochs=~'
