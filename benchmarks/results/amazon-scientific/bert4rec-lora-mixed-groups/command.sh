#!/usr/bin/env bash
set -eu
# Recorded when content_term, purchase_term and soft_groups were not there, group_negatives was on, correct_sampling off, averaging_epochs ~ and batches_per_encoding 1: add
# content_term=False purchase_term=False soft_groups=False group_negatives=True correct_sampling=False averaging_epochs=~ batches_per_encoding=1 to --for_perpeft, but for what it sets.
# at commit f492cac: group_mixing is gone since
: "${DATASETS:?folder of atomic data sets, amazon-scientific among them}" "${MINILM:?folder of a MiniLM}"
of=benchmarks/settings/amazon-scientific/mixed
python -m recbole_perpeft compare --model=PerPEFTBERT4Rec --dataset amazon-scientific --data_path=$DATASETS --peft LORA --MAX_ITEM_LIST_LENGTH=10 \
  --eval_step=5 --stopping_step=10 --eval_batch_size=4096 --variants $of/perpeft.yaml global_peft frozen --models BERT4Rec \
  --out results/amazon-scientific/bert4rec-lora-mixed-groups --for_perpeft text_encoder=$MINILM max_text_length=32 peft_learning_rate=0.0005 peft_layers=1 \
  epochs=60 global_epochs=30 learning_rate=0.001 averaging_epochs=3 batches_per_encoding=15 'num_negatives=~' \
  initializer_range=0.1 mask_ratio=0.4 hidden_dropout_prob=0.1 attn_dropout_prob=0.1
