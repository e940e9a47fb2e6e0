#!/bin/bash
# RecBole 1.2.1: if one purchase has no user and a later one no item, another purchase is dropped than the one without.
#
# Rows without a user are dropped first, which leaves a gap in the table's labels. The rows without an item are then found
# by label and dropped by position, one row further down for each that went before. So the purchase without an item stays,
# as one of an item called [PAD], which counts in training and in metrics, and a good one is gone. Near the end of the file
# the load ends in an IndexError instead. The log names the right line as removed. Empty fields, NA, null, None and nan
# count as missing, so that a customer called "None" and one cut line are enough.
#
# Cure: drop both kinds before RecBole sees the file.
#
# Output seen (recbole 1.2.1, pandas 2.3.3, Python 3.11):
#   in the file, with both ids: u1 i2, u2 i3, u2 i4, u3 i5
#   kept:                       u1 i2, u1 [PAD], u2 i4, u3 i5
#
# Fails if that changes.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet "recbole==1.2.1" "torch==2.13.0" "pandas==2.3.3" "numpy==1.26.4" "scipy<1.14"
cd "$place"
mkdir -p data/shop
printf 'user_id:token\titem_id:token\ttimestamp:float\n' > data/shop/shop.inter
printf '%s\t%s\t%s\n' NA i1 1  u1 i2 2  u1 NA 3  u2 i3 4  u2 i4 5  u3 i5 6 >> data/shop/shop.inter
"$place/venv/bin/python" - <<'PYTHON' 2>/dev/null
from recbole.config import Config
from recbole.data.dataset import Dataset

settings = {"data_path": "data/", "load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "state": "ERROR"}
dataset = Dataset(Config(model="BPR", dataset="shop", config_dict=settings))
users = dataset.id2token("user_id", dataset.inter_feat["user_id"])
items = dataset.id2token("item_id", dataset.inter_feat["item_id"])
kept = [f"{user} {item}" for user, item in zip(users, items)]
print("in the file, with both ids: u1 i2, u2 i3, u2 i4, u3 i5")
print("kept:                       " + ", ".join(kept))
assert "u2 i3" not in kept, "the behaviour has changed"
PYTHON
