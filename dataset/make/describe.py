"""Print what a demo's encoder reads of every aspect, and what bounds a recommender on its purchases.

python -m dataset.make.describe
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import AutoTokenizer, CLIPModel
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from dataset.make.aspects import ASPECTS
from dataset.make.catalogue import Catalogue, make_catalogue
from dataset.make.demo import N_ITEMS, N_USERS, SEED, SIDE
from dataset.make.purchases import Purchases, make_purchases, utilities


@torch.no_grad()
def embed(catalogue: Catalogue, encoder: Path, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Embed pictures and titles of a catalogue with a frozen encoder.

    Parameters
    ----------
    catalogue : Catalogue
        The items.
    encoder : Path
        Folder of a `CLIPModel`, its tokenizer and its image processor.
    side : int
        Side of the pictures in pixels.

    Returns
    -------
    images, texts : ndarray of float, shape [n_items, d]
        L2-normalised embeddings.
    """
    model = CLIPModel.from_pretrained(encoder).eval()
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    processor = AutoImageProcessor.from_pretrained(encoder, backend="pil")
    pixels = processor(list(catalogue.pictures(side)), return_tensors="pt")
    tokens = tokenizer(catalogue.titles, padding=True, truncation=True, return_tensors="pt")
    images = model.get_image_features(pixel_values=pixels["pixel_values"]).pooler_output
    texts = model.get_text_features(
        input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
    ).pooler_output
    normalise = torch.nn.functional.normalize
    return normalise(images, dim=-1).numpy(), normalise(texts, dim=-1).numpy()


def probe(features: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy of a logistic regression in five-fold cross-validation.

    Parameters
    ----------
    features : ndarray of float, shape [n, d]
        What it reads.
    labels : ndarray of int, shape [n]
        What it tells.

    Returns
    -------
    float
        Mean accuracy over the folds.
    """
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return float(cross_val_score(classifier, features, labels, cv=folds).mean())


def leave_one_out(catalogue: Catalogue, purchases: Purchases, k: int = 20) -> dict[str, tuple[float, float]]:
    """Rank every user's last purchase among all items that are not in his history.

    Parameters
    ----------
    catalogue : Catalogue
        The items.
    purchases : Purchases
        The interactions.
    k : int
        Length of the recommended list.

    Returns
    -------
    dict of str to (float, float)
        NDCG and hit ratio of an oracle (the true utilities), of popularity in training (test purchases left
        out) and of a random order.
    """
    n_users, n_items = len(purchases.groups), len(catalogue)
    ends = np.flatnonzero(np.diff(purchases.users, append=-1))
    starts = np.concatenate([[0], ends[:-1] + 1])
    bought = np.bincount(np.delete(purchases.items, ends), minlength=n_items)
    rng = np.random.default_rng(0)
    ranks = {name: np.empty(n_users, dtype=int) for name in ("oracle", "popularity", "random")}
    for user, (start, end) in enumerate(zip(starts, ends, strict=True)):
        chance = rng.random(n_items)
        scores = {
            "oracle": utilities(purchases.tastes[user], catalogue.values, purchases.popularity),
            "popularity": bought + 0.001 * chance,  # ties in random order
            "random": chance,
        }
        for name, score in scores.items():
            rivals = np.delete(score, purchases.items[start : end + 1])
            ranks[name][user] = (rivals > score[purchases.items[end]]).sum()
    results = {}
    for name, rank in ranks.items():
        hits = rank < k
        results[name] = (float((hits / np.log2(rank + 2)).mean()), float(hits.mean()))
    return results


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--n_items", type=int, default=N_ITEMS)
    parser.add_argument("--n_users", type=int, default=N_USERS)
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--same_aspects", action="store_true")
    parser.add_argument("--encoder", type=Path, default=Path("dataset/demo/encoder"))
    args = parser.parse_args(arguments)

    catalogue = make_catalogue(args.n_items, args.seed)
    purchases = make_purchases(catalogue, args.n_users, args.seed, args.same_aspects)
    print("Leave-one-out, full ranking, history masked   NDCG@20   Hit@20")
    for name, (ndcg, hit) in leave_one_out(catalogue, purchases).items():
        print(f"{name:45s} {ndcg:7.3f} {hit:8.3f}")

    images, texts = embed(catalogue, args.encoder, args.side)
    print("\nLinear probe, accuracy    shown in         chance   image    text    both")
    for column, aspect in enumerate(ASPECTS):
        labels = catalogue.values[:, column]
        chance = np.bincount(labels).max() / len(labels)
        scores = [probe(x, labels) for x in (images, texts, np.concatenate([images, texts], axis=1))]
        numbers = " ".join(f"{number:7.2f}" for number in (chance, *scores))
        print(f"{aspect.name:25s} {' + '.join(aspect.shown_in):15s} {numbers}")
    cosines = images @ texts.T
    print(f"\nCosine of picture and title: own {cosines.diagonal().mean():.3f}, others {cosines.mean():.3f}")


if __name__ == "__main__":
    main()
