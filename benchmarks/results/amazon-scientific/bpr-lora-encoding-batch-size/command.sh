#!/usr/bin/env bash
set -eu
# Recorded when content_term, purchase_term and soft_groups were not there, group_negatives was on, correct_sampling off, averaging_epochs ~ and batches_per_encoding 1: add
# content_term=False purchase_term=False soft_groups=False group_negatives=True correct_sampling=False averaging_epochs=~ batches_per_encoding=1 to --for_perpeft, but for what it sets.
# PerPEFTLightGCN had loss_type=BPR num_negatives=1 similar_items=~, and --grow_history=False held for all general models.
: "${DATASETS:?folder of atomic data sets, amazon-scientific among them}" "${MINILM:?folder of a MiniLM}"
python -m recbole_perpeft compare --model=PerPEFTBPR --dataset amazon-scientific --data_path=$DATASETS --peft LORA --seeds 2020 --eval_step=2 \
  --variants benchmarks/settings/encoding_batch_size.yaml global_peft --out results/amazon-scientific/bpr-lora-encoding-batch-size --for_perpeft text_encoder=$MINILM max_text_length=32 \
  peft_layers=1 users_per_batch=320 batches_per_encoding=20 epochs=2
