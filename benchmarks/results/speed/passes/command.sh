#!/usr/bin/env bash
set -eu
: "${DATASETS:?folder of atomic data sets, amazon-scientific among them}"
mkdir -p results/speed/passes
python benchmarks/passes.py --shops 15701x25363 7850x12680 --datasets demo amazon-scientific --data_path $DATASETS --timed 4000x6400 --turns 1 --json results/speed/passes/table.json
python -m dataset.make.demo --seed 2020 --n_items 7850 --n_users 12680 --out results/speed/passes/shop
on_shop="python run_recbole_perpeft.py --dataset=shop --data_path=results/speed/passes --encoder=dataset/demo/encoder --peft_layers=1 --content_term=False --purchase_term=False --soft_groups=False
  --eval_batch_size=4096"
for rates in "--batches_per_encoding=8" "--batches_per_encoding=40 --peft_learning_rate=0.016" "--batches_per_encoding=40 --peft_learning_rate=0.04" "--batches_per_encoding=40 --peft_learning_rate=0.08"; do
  $on_shop --num_groups=1 --epochs=15 --eval_step=3 $rates
done
python run_recbole_perpeft.py --dataset=shop --data_path=results/speed/passes --encoder=dataset/demo/encoder --peft_type=NONE --content_term=False --purchase_term=False --eval_batch_size=4096 --num_groups=1 \
  --epochs=15 --eval_step=3
$on_shop --epochs=20 --eval_step=5 --encoding_batch_size=100000
$on_shop --epochs=20 --eval_step=5 --batches_per_encoding=8
for rates in "--batches_per_encoding=8" "--encoding_batch_size=100000"; do
  $on_shop --num_groups=1 --epochs=15 --eval_step=3 --seed=2021 $rates # stopped after nine epochs
done
python benchmarks/passes.py --timed demo --stage 3 --turns 3
for encoded in "" "--batches_per_encoding=8"; do # a share of the items, and all
  python run_recbole_perpeft.py $encoded
  python run_recbole_perpeft.py --seed=2021 $encoded
  python run_recbole_perpeft.py --epochs=30 --global_epochs=10 --content_term=False --purchase_term=False $encoded
  python run_recbole_perpeft.py --model=PerPEFTLightGCN --epochs=30 --global_epochs=10 $encoded
done
