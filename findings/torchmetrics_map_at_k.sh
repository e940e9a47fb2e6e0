#!/bin/bash
# torchmetrics 1.9.0: RetrievalMAP with top_k falls when one more relevant document is found.
#
# Average precision divides the sum of the precisions at the relevant documents by the number of relevant documents
# (ranx 0.3.21, RecTools 0.19.0), or by k if that is less (RecBole 1.2.1, LensKit 2025.8.1). With top_k, torchmetrics
# divides by the number of relevant documents that are within the first k. So a list that finds one of two relevant
# documents, in the first place, has a MAP of 1, a list that finds the other one too, further down, has less, and MAP
# can fall as top_k grows. The documentation of top_k says no more than "consider only the top k elements".
#
# Cure: judge MAP at a cut with another library.
#
# Output seen (torchmetrics 1.9.0, torch 2.13.0, Python 3.11), two documents being relevant:
#   found at 1           MAP@4 1.000
#   found at 1 and at 4  MAP@4 0.750
#   found at 1 and at 4  MAP@1 1.000
#
# Fails if that changes.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet "torch==2.13.0" "torchmetrics==1.9.0"
"$place/venv/bin/python" - <<'PYTHON'
import torch
from torchmetrics.retrieval import RetrievalMAP

scores, user = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.4]), torch.zeros(6, dtype=torch.long)
seen = []
for places, k in (([1, 6], 4), ([1, 4], 4), ([1, 4], 1)):
    relevant = torch.tensor([place in places for place in range(1, 7)])
    seen.append(float(RetrievalMAP(top_k=k)(scores, relevant, indexes=user)))
    found = " and at ".join(str(place) for place in places if place <= 4)
    print(f"found at {found:10s}  MAP@{k} {seen[-1]:.3f}")
assert seen == [1, 0.75, 1], "the behaviour has changed"
PYTHON
