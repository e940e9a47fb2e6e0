#!/usr/bin/env bash
set -eu
# Recorded when content_term, purchase_term and soft_groups were not there, group_negatives was on, correct_sampling off, averaging_epochs ~ and batches_per_encoding 1: add
# content_term=False purchase_term=False soft_groups=False group_negatives=True correct_sampling=False averaging_epochs=~ batches_per_encoding=1 to --for_perpeft, but for what it sets.
: "${DATASETS:?folder of atomic data sets, amazon-scientific among them}" "${MINILM:?folder of a MiniLM}"
python benchmarks/tuned.py --dataset amazon-scientific --peft IISAN --trials 8 --out results/amazon-scientific/sasrec-2000-users-tuned/iisan --data_path=$DATASETS \
  --MAX_ITEM_LIST_LENGTH=10 --user_sample=2000 --stopping_step=5 \
  --for_perpeft text_encoder=$MINILM max_text_length=32 epochs=20 global_epochs=10 iisan_form=normalised
of=benchmarks/settings/amazon-scientific/tuned  # what the search found
python -m recbole_perpeft compare --dataset amazon-scientific --data_path=$DATASETS --peft LORA --out results/amazon-scientific/sasrec-2000-users-tuned/lora \
  --variants $of/perpeft.yaml $of/global_peft.yaml --for_perpeft text_encoder=$MINILM peft_layers=1 eval_step=4
python -m recbole_perpeft compare --dataset amazon-scientific --data_path=$DATASETS --peft IA3 --out results/amazon-scientific/sasrec-2000-users-tuned/ia3 \
  --variants $of/ia3/perpeft.yaml $of/ia3/global_peft.yaml --for_perpeft text_encoder=$MINILM peft_layers=1 eval_step=4
