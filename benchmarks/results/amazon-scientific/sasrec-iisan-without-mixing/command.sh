#!/usr/bin/env bash
set -eu
# Recorded when content_term, purchase_term and soft_groups were not there, group_negatives was on, correct_sampling off, averaging_epochs ~ and batches_per_encoding 1: add
# content_term=False purchase_term=False soft_groups=False group_negatives=True correct_sampling=False averaging_epochs=~ batches_per_encoding=1 to --for_perpeft, but for what it sets.
: "${DATASETS:?folder of atomic data sets, amazon-scientific among them}" "${MINILM:?folder of a MiniLM}"
# at commit bbc7d98: group_sharing is gone since
python -m recbole_perpeft compare --dataset amazon-scientific --data_path=$DATASETS --peft IISAN --seeds 2020 2021 2022 \
  --variants benchmarks/settings/amazon-scientific/corrected/perpeft.yaml global_peft \
  --MAX_ITEM_LIST_LENGTH=10 --stopping_step=6 --eval_batch_size=4096 --out results/amazon-scientific/sasrec-iisan-without-mixing --for_perpeft text_encoder=$MINILM \
  max_text_length=32 epochs=30 peft_learning_rate=0.0005 averaging_epochs=2 correct_sampling=True iisan_form=normalised
