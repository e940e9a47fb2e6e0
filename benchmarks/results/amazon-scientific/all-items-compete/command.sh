#!/usr/bin/env bash
set -eu
# Recorded when content_term, purchase_term and soft_groups were not there, group_negatives was on, correct_sampling off, averaging_epochs ~ and batches_per_encoding 1: add
# content_term=False purchase_term=False soft_groups=False group_negatives=True correct_sampling=False averaging_epochs=~ batches_per_encoding=1 to --for_perpeft, but for what it sets.
: "${DATASETS:?folder of atomic data sets, amazon-scientific among them}" "${MINILM:?folder of a MiniLM}"
common="--dataset amazon-scientific --data_path=$DATASETS --MAX_ITEM_LIST_LENGTH=10 --user_sample=2000 --eval_step=2 --stopping_step=6
  --eval_batch_size=4096 --seeds 2020 --variants global_peft frozen"
for_all="text_encoder=$MINILM max_text_length=32 num_negatives=~"
python -m recbole_perpeft compare --model=PerPEFTGRU4Rec --peft LORA $common --out results/amazon-scientific/all-items-compete/gru4rec-lora --for_perpeft $for_all \
  peft_layers=1 averaging_epochs=3 batches_per_encoding=4 epochs=16 global_epochs=10 peft_learning_rate=0.0005
python -m recbole_perpeft compare --peft IISAN $common --out results/amazon-scientific/all-items-compete/sasrec-iisan --for_perpeft $for_all \
  hidden_dropout_prob=0.5 epochs=20 global_epochs=12 peft_learning_rate=0.001 iisan_form=normalised
