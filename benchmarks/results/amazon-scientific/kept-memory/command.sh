#!/usr/bin/env bash
set -eu
# Recorded when content_term, purchase_term and soft_groups were not there, group_negatives was on, correct_sampling off, averaging_epochs ~ and batches_per_encoding 1: add
# content_term=False purchase_term=False soft_groups=False group_negatives=True correct_sampling=False averaging_epochs=~ batches_per_encoding=1 to --for_perpeft, but for what it sets.
: "${DATASETS:?folder of atomic data sets, amazon-scientific among them}" "${MINILM:?folder of a MiniLM}"
# each once as it stands and once with the words MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=99999999999 exported, both at once
common="--dataset amazon-scientific --data_path=$DATASETS --MAX_ITEM_LIST_LENGTH=10 --eval_step=1 --eval_batch_size=4096 --epochs=1 --seeds 2020"
for_perpeft="--for_perpeft text_encoder=$MINILM max_text_length=32"
out=results/amazon-scientific/kept-memory${MALLOC_MMAP_MAX_:+-kept}
python -m recbole_perpeft compare $common --model=PerPEFTBERT4Rec --variants frozen --out $out/bert4rec $for_perpeft 'num_negatives=~' batches_per_encoding=15
python -m recbole_perpeft compare $common --variants --models SASRec --out $out/sasrec
python -m recbole_perpeft compare $common --variants global_peft --peft IISAN --out $out/iisan $for_perpeft iisan_form=normalised
