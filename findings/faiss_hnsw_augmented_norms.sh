#!/bin/bash
# faiss 1.15.1: HNSW with inner products through one more dimension finds next to nothing where norms differ.
#
# The items with the largest inner products are, exactly, the nearest neighbours of (query, 0) among
# (x, sqrt(max |x|^2 - |x|^2)). This reduction is the usual advice, for a graph of distances has proofs and one of inner
# products has none. It holds in an exact search; in the graph it is the other way round. Below: recall@20 of HNSW (M 32,
# efConstruction 100) over 20,000 random vectors of 64 dimensions, with norms that are alike, and with norms spread by a
# lognormal factor of sigma 0.5. The longest vector then makes the further dimension longer than all the rest of almost
# every other one: these are near each other by it, and equally far from every query.
#
# Cure: METRIC_INNER_PRODUCT on the vectors as they are, and measure recall on one's own table.
#
# Output seen (faiss-cpu 1.15.1, numpy 2.4.6, Python 3.11):
#   norms spread by 0.0: inner products      efSearch  256  recall 0.998
#   norms spread by 0.0: inner products      efSearch 1000  recall 1.000
#   norms spread by 0.0: one more dimension  efSearch  256  recall 0.787
#   norms spread by 0.0: one more dimension  efSearch 1000  recall 0.956
#   norms spread by 0.5: inner products      efSearch  256  recall 0.998
#   norms spread by 0.5: inner products      efSearch 1000  recall 1.000
#   norms spread by 0.5: one more dimension  efSearch  256  recall 0.146
#   norms spread by 0.5: one more dimension  efSearch 1000  recall 0.294
#
# Fails if that changes.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet "faiss-cpu==1.15.1" "numpy==2.4.6"
"$place/venv/bin/python" - <<'PYTHON'
import faiss
import numpy as np

N, WIDTH, K = 20_000, 64, 20
faiss.omp_set_num_threads(1)


def graph(vectors, metric, tried):
    index = faiss.IndexHNSWFlat(vectors.shape[1], 32, metric)
    index.hnsw.efConstruction = 100
    index.add(np.ascontiguousarray(vectors, dtype=np.float32))
    index.hnsw.efSearch = tried
    return index


rng = np.random.default_rng(0)
queries = rng.standard_normal((200, WIDTH)).astype(np.float32)
seen = {}
for sigma in (0.0, 0.5):
    items = (rng.standard_normal((N, WIDTH)) * np.exp(sigma * rng.standard_normal((N, 1)))).astype(np.float32)
    best = np.argsort(-(queries @ items.T), axis=1)[:, :K]
    squares = (items**2).sum(axis=1, keepdims=True)
    longer = np.hstack([items, np.sqrt(squares.max() - squares)])
    padded = np.hstack([queries, np.zeros((len(queries), 1), np.float32)])
    distances = (longer**2).sum(axis=1) - 2 * padded @ longer.T  # but for what is alike for all items
    nearest = np.argsort(distances, axis=1)[:, :K]
    assert (nearest == best).mean() > 0.999  # the reduction itself is exact
    for name, vectors, asked, metric in (
        ("inner products", items, queries, faiss.METRIC_INNER_PRODUCT),
        ("one more dimension", longer, padded, faiss.METRIC_L2),
    ):
        for tried in (256, 1000):
            _, found = graph(vectors, metric, tried).search(asked, K)
            recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(found, best)])
            seen[sigma, name, tried] = recall
            print(f"norms spread by {sigma}: {name:18s}  efSearch {tried:4d}  recall {recall:.3f}")
assert seen[0.5, "inner products", 256] > 0.95, "the behaviour has changed"
assert seen[0.5, "one more dimension", 1000] < 0.6, "the behaviour has changed"
PYTHON
