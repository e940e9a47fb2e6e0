#!/usr/bin/env bash
set -eu
# Recorded when content_term, purchase_term and soft_groups were not there, group_negatives was on, correct_sampling off, averaging_epochs ~ and batches_per_encoding 1: add
# content_term=False purchase_term=False soft_groups=False group_negatives=True correct_sampling=False averaging_epochs=~ batches_per_encoding=1 to --for_perpeft, but for what it sets.
# at commit f492cac: group_mixing is gone since
: "${DATASETS:?folder of atomic data sets, amazon-scientific among them}" "${MINILM:?folder of a MiniLM}"
of=benchmarks/settings/amazon-scientific/mixed
python -m recbole_perpeft compare --model=PerPEFTGRU4Rec --dataset amazon-scientific --data_path=$DATASETS --peft IISAN --MAX_ITEM_LIST_LENGTH=10 \
  --eval_step=2 --stopping_step=6 --eval_batch_size=4096 --variants $of/perpeft.yaml global_peft frozen --models GRU4Rec --seeds 2020 2021 2022 2023 2024 \
  --out results/amazon-scientific/gru4rec-iisan-mixed-groups --for_perpeft text_encoder=$MINILM max_text_length=32 peft_learning_rate=0.0005 \
  epochs=24 global_epochs=12 correct_sampling=True averaging_epochs=2 iisan_form=normalised
