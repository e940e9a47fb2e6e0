#!/usr/bin/env bash
set -eu
# Recorded when content_term, purchase_term and soft_groups were not there, group_negatives was on, correct_sampling off, averaging_epochs ~ and batches_per_encoding 1: add
# content_term=False purchase_term=False soft_groups=False group_negatives=True correct_sampling=False averaging_epochs=~ batches_per_encoding=1 to --for_perpeft, but for what it sets.
# at commit f492cac: group_mixing is gone since
: "${DATASETS:?folder of atomic data sets, amazon-scientific among them}" "${MINILM:?folder of a MiniLM}"
of=benchmarks/settings/amazon-scientific/mixed
common="--dataset amazon-scientific --data_path=$DATASETS --MAX_ITEM_LIST_LENGTH=10 --eval_step=2 --stopping_step=6 --eval_batch_size=4096"
for_all="text_encoder=$MINILM max_text_length=32 averaging_epochs=2 correct_sampling=True"
python -m recbole_perpeft compare $common --peft IISAN --out results/amazon-scientific/sasrec-iisan-mixed-groups-ids \
  --variants $of/perpeft.yaml global_peft $of/random_groups.yaml frozen $of/without_multimodal_bce.yaml \
  --models SASRec:learning_rate=0.0005,hidden_dropout_prob=0.5,attn_dropout_prob=0.2,learner=adamw,weight_decay=0.0001 \
  --for_perpeft $for_all epochs=30 global_epochs=15 peft_learning_rate=0.0005 iisan_form=normalised
