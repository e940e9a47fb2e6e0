#!/usr/bin/env bash
set -eu
# Recorded when content_term and soft_groups were not there, correct_sampling was off, averaging_epochs ~ and batches_per_encoding 1: add
# content_term=False soft_groups=False correct_sampling=False averaging_epochs=~ batches_per_encoding=1 to --for_perpeft, but for what it sets.
: "${DATASETS:?folder of atomic data sets, amazon-scientific among them}" "${MINILM:?folder of a MiniLM}"
python -m recbole_perpeft compare --dataset amazon-scientific --data_path=$DATASETS --variants perpeft global_peft frozen --peft IISAN \
  --models SASRec:learning_rate=0.0005,hidden_dropout_prob=0.5,attn_dropout_prob=0.2,learner=adamw,weight_decay=0.0001 \
  --MAX_ITEM_LIST_LENGTH=10 --stopping_step=6 --eval_batch_size=4096 --out results/amazon-scientific/sasrec-iisan-2000-negatives --for_perpeft text_encoder=$MINILM \
  max_text_length=32 epochs=24 global_epochs=12 grouping=kmeans peft_learning_rate=0.0005 iisan_form=normalised num_negatives=2000
