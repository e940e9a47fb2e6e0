#!/usr/bin/env bash
set -eu
: "${DATASETS:?folder of atomic data sets, amazon-scientific among them}" "${MINILM:?folder of a MiniLM}"
of=benchmarks/settings/amazon-scientific/mixed
python -m recbole_perpeft compare --model=PerPEFTBPR --dataset amazon-scientific --data_path=$DATASETS --peft IISAN --MAX_ITEM_LIST_LENGTH=10 \
  --eval_step=4 --stopping_step=6 --eval_batch_size=4096 --variants $of/perpeft.yaml global_peft --models BPR \
  --out results/amazon-scientific/bpr-iisan-64-users-a-batch --for_perpeft text_encoder=$MINILM max_text_length=32 peft_learning_rate=0.0005 \
  epochs=40 global_epochs=20 learning_rate=0.003 averaging_epochs=3 batches_per_encoding=4 iisan_form=normalised
