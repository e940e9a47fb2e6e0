#!/usr/bin/env bash
set -eu
: "${DATASETS:?folder of atomic data sets, amazon-scientific among them}" "${MINILM:?folder of a MiniLM}"
python benchmarks/new_users.py --dataset amazon-scientific --seeds 2020 --share 0.1 --variants "coherence" "global PEFT" --jobs 2 \
  --out results/amazon-scientific/sasrec-iisan-new-users --data_path=$DATASETS --peft_type=IISAN --text_encoder=$MINILM --max_text_length=32 \
  --eval_batch_size=4096 --eval_step=3
