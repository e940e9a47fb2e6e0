#!/usr/bin/env bash
set -eu
# Recorded when content_term, purchase_term and soft_groups were not there, group_negatives was on, correct_sampling off, averaging_epochs ~ and batches_per_encoding 1: add
# content_term=False purchase_term=False soft_groups=False group_negatives=True correct_sampling=False averaging_epochs=~ batches_per_encoding=1 to --for_perpeft, but for what it sets.
mkdir -p results/demo/sasrec-lora-layers
python benchmarks/ablation.py --out results/demo/sasrec-lora-layers/demo.json --set l2_emb=0.000001 'regroup_epochs=~' epochs=8 \
  --ways "all layers" "top two layers only" "top layer only"
python benchmarks/ablation.py --out results/demo/sasrec-lora-layers/demo.json --set l2_emb=0.000001 'regroup_epochs=~' epochs=8 \
  --ways "top layer only" "top layer only+fp32" "all items compete+top layer only"
python benchmarks/ablation.py --out results/demo/sasrec-lora-layers/windows.json --set l2_emb=0.000001 'regroup_epochs=~' epochs=8 \
  --ways "top two layers only" "top two layers only+2 batches per encoding"
