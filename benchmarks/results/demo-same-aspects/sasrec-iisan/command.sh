#!/usr/bin/env bash
set -eu
# Recorded when content_term, purchase_term and soft_groups were not there, group_negatives was on, correct_sampling off, averaging_epochs ~ and batches_per_encoding 1: add
# content_term=False purchase_term=False soft_groups=False group_negatives=True correct_sampling=False averaging_epochs=~ batches_per_encoding=1 to --for_perpeft, but for what it sets.
python -m dataset.make.demo --same_aspects --out data/control
python -m recbole_perpeft compare --dataset control --data_path=data --encoder=$PWD/dataset/demo/encoder --MAX_ITEM_LIST_LENGTH=15 \
  --variants perpeft global_peft --peft IISAN --out results/demo-same-aspects/sasrec-iisan \
  --for_perpeft epochs=40 global_epochs=16 regroup_epochs=2 iisan_form=normalised
