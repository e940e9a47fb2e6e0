#!/usr/bin/env bash
set -eu
# Recorded when content_term, purchase_term and soft_groups were not there, group_negatives was on, correct_sampling off, averaging_epochs ~ and batches_per_encoding 1: add
# content_term=False purchase_term=False soft_groups=False group_negatives=True correct_sampling=False averaging_epochs=~ batches_per_encoding=1 to --for_perpeft, but for what it sets.
# at commit f492cac: group_mixing is gone since
: "${DATASETS:?folder of atomic data sets, amazon-scientific among them}" "${MINILM:?folder of a MiniLM}"
of=benchmarks/settings/amazon-scientific/mixed
common="--dataset amazon-scientific --data_path=$DATASETS --MAX_ITEM_LIST_LENGTH=10 --eval_step=2 --stopping_step=6 --eval_batch_size=4096"
for_all="text_encoder=$MINILM max_text_length=32 averaging_epochs=2 correct_sampling=True"
python -m recbole_perpeft compare $common --peft IA3 --variants $of/perpeft.yaml global_peft frozen --out results/amazon-scientific/sasrec-ia3-mixed-groups \
  --for_perpeft $for_all epochs=20 global_epochs=10 peft_learning_rate=0.002 peft_layers=1 batches_per_encoding=15
