#!/usr/bin/env bash
set -eu
# Recorded when content_term, purchase_term and soft_groups were not there, group_negatives was on, correct_sampling off, averaging_epochs ~ and batches_per_encoding 1: add
# content_term=False purchase_term=False soft_groups=False group_negatives=True correct_sampling=False averaging_epochs=~ batches_per_encoding=1 to --for_perpeft, but for what it sets.
# at commit f492cac: group_mixing is gone since
: "${DATASETS:?folder of atomic data sets, amazon-scientific among them}" "${MINILM:?folder of a MiniLM}"
# the last row; of the others: --num_groups, --global_epochs and --group_negatives (of the group: True; all items: False)
python run_recbole_perpeft.py --dataset=amazon-scientific --data_path=$DATASETS --peft_type=IISAN --MAX_ITEM_LIST_LENGTH=10 \
  --eval_step=2 --stopping_step=6 --eval_batch_size=4096 --text_encoder=$MINILM --max_text_length=32 --averaging_epochs=2 \
  --correct_sampling=True --epochs=30 --peft_learning_rate=0.0005 --grouping=kmeans --group_mixing=0.5 --num_groups=8 \
  --global_epochs=15 --group_negatives=False --iisan_form=normalised --checkpoint_dir=results/amazon-scientific/sasrec-iisan-mixing
python benchmarks/apart.py results/amazon-scientific/sasrec-iisan-mixing/*.pth --distances 0.5 --mixings 0 0.2 0.5 0.8 1
