#!/usr/bin/env bash
set -eu
# Recorded when content_term, purchase_term and soft_groups were not there, group_negatives was on, correct_sampling off, averaging_epochs ~ and batches_per_encoding 1: add
# content_term=False purchase_term=False soft_groups=False group_negatives=True correct_sampling=False averaging_epochs=~ batches_per_encoding=1 to --for_perpeft, but for what it sets.
# PerPEFTLightGCN had loss_type=BPR num_negatives=1 similar_items=~, and --grow_history=False held for all general models.
# at commit f492cac: group_mixing is gone since
: "${DATASETS:?folder of atomic data sets, amazon-scientific among them}" "${MINILM:?folder of a MiniLM}"
of=benchmarks/settings/amazon-scientific/mixed
python -m recbole_perpeft compare --model=PerPEFTLightGCN --dataset amazon-scientific --data_path=$DATASETS --peft LORA --MAX_ITEM_LIST_LENGTH=10 \
  --eval_step=6 --stopping_step=10 --eval_batch_size=10000000 --variants $of/perpeft.yaml global_peft --seeds 2020 2021 \
  --out results/amazon-scientific/lightgcn-lora-mixed-groups --for_perpeft text_encoder=$MINILM max_text_length=32 peft_learning_rate=0.0005 peft_layers=1 \
  encoding_batch_size=4096 epochs=48 global_epochs=24 learning_rate=0.002 averaging_epochs=3 users_per_batch=320 \
  batches_per_encoding=20
