#!/bin/bash
# torchmetrics 1.9.0: retrieval metrics of scores that are not positive.
#
# A ranking does not change when the same number is taken from all its scores. RetrievalNormalizedDCG agrees. Of the
# same scores RetrievalRecall, RetrievalMAP, RetrievalMRR and RetrievalPrecision make 0, without a warning, once they
# are not above zero: a relevant document with a score of zero or less does not count as found, not even in the first
# place. RetrievalHitRate does count it. Recommenders score by dot products and log-probabilities, which are below
# zero for many items. The classes' documentation says "Accepts float predictions from a model output" and names no
# such condition; that of the functions calls preds "estimated probabilities of each document to be relevant", and the
# check of the inputs lets all floats pass.
#
# Cure: rank first and hand over positive numbers, such as n minus the rank; or a sigmoid of the scores.
#
# Output seen (torchmetrics 1.9.0, torch 2.13.0, Python 3.11):
#   RetrievalNormalizedDCG  scores 1.00  scores - 5 1.00
#   RetrievalRecall         scores 1.00  scores - 5 0.00
#   RetrievalMAP            scores 1.00  scores - 5 0.00
#   RetrievalMRR            scores 1.00  scores - 5 0.00
#   RetrievalHitRate        scores 1.00  scores - 5 1.00
#   RetrievalPrecision      scores 0.50  scores - 5 0.00
#
# Fails if that changes.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet "torch==2.13.0" "torchmetrics==1.9.0"
"$place/venv/bin/python" - <<'PYTHON'
import torch
from torchmetrics import retrieval

scores = torch.tensor([4.0, 3.0, 2.0, 1.0])  # two users, two documents each; the better one is the relevant one
users, relevant = torch.tensor([0, 0, 1, 1]), torch.tensor([True, False, True, False])
seen = {}
for name in ("NormalizedDCG", "Recall", "MAP", "MRR", "HitRate", "Precision"):
    metric = getattr(retrieval, f"Retrieval{name}")(top_k=2)
    seen[name] = [float(metric(values, relevant, indexes=users)) for values in (scores, scores - 5)]
    print(f"{'Retrieval' + name:23s} scores {seen[name][0]:.2f}  scores - 5 {seen[name][1]:.2f}")
assert seen.pop("NormalizedDCG") == seen.pop("HitRate") == [1, 1]
assert seen.pop("Precision") == [0.5, 0]
assert all(values == [1, 0] for values in seen.values()), "the behaviour has changed"
PYTHON
