#!/usr/bin/env bash
set -eu
# Recorded when content_term, purchase_term and soft_groups were not there, group_negatives was on, correct_sampling off, averaging_epochs ~ and batches_per_encoding 1: add
# content_term=False purchase_term=False soft_groups=False group_negatives=True correct_sampling=False averaging_epochs=~ batches_per_encoding=1 to --for_perpeft, but for what it sets.
: "${DATASETS:?folder of atomic data sets, amazon-scientific among them}" "${MINILM:?folder of a MiniLM}"
common="--dataset=amazon-scientific --data_path=$DATASETS --MAX_ITEM_LIST_LENGTH=10 --user_sample=6000 --stopping_step=6 --eval_batch_size=4096"
for_all="text_encoder=$MINILM max_text_length=32 epochs=30 peft_learning_rate=0.0005 num_negatives=2000 iisan_form=normalised"
python -m recbole_perpeft compare $common --peft IISAN --variants global_peft --out results/amazon-scientific/sasrec-iisan-correct-sampling/plain --for_perpeft $for_all
python -m recbole_perpeft compare $common --peft IISAN --variants global_peft --out results/amazon-scientific/sasrec-iisan-correct-sampling/corrected --for_perpeft $for_all \
  averaging_epochs=2 correct_sampling=True
