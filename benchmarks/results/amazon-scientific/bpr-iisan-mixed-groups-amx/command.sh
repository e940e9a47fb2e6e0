#!/usr/bin/env bash
set -eu
# Recorded when content_term, purchase_term and soft_groups were not there, group_negatives was on, correct_sampling off, averaging_epochs ~ and batches_per_encoding 1: add
# content_term=False purchase_term=False soft_groups=False group_negatives=True correct_sampling=False averaging_epochs=~ batches_per_encoding=1 to --for_perpeft, but for what it sets.
# PerPEFTLightGCN had loss_type=BPR num_negatives=1 similar_items=~, and --grow_history=False held for all general models.
# at commit f492cac: group_mixing is gone since
: "${DATASETS:?folder of atomic data sets, amazon-scientific among them}" "${MINILM:?folder of a MiniLM}"
of=benchmarks/settings/amazon-scientific/mixed
python -m recbole_perpeft compare --model=PerPEFTBPR --dataset amazon-scientific --data_path=$DATASETS --peft IISAN --MAX_ITEM_LIST_LENGTH=10 \
  --eval_step=4 --stopping_step=6 --eval_batch_size=4096 --variants $of/perpeft.yaml global_peft frozen --models BPR \
  --out results/amazon-scientific/bpr-iisan-mixed-groups-amx --for_perpeft text_encoder=$MINILM max_text_length=32 peft_learning_rate=0.0005 \
  epochs=120 global_epochs=60 learning_rate=0.002 averaging_epochs=3 users_per_batch=320 batches_per_encoding=2 iisan_form=normalised
