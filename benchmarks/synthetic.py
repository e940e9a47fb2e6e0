"""A synthetic shop of any size for the benchmarks: the demo's generator, with pictures and an encoder to go with it."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPConfig, CLIPModel

from dataset.make.aspects import TITLE, shown_in
from dataset.make.catalogue import Catalogue, make_catalogue
from dataset.make.demo import SIDE, write_atomic_files, write_pictures
from dataset.make.encoder_files import build_tokenizer, save_encoder
from dataset.make.purchases import make_purchases
from dataset.make.titles import write_titles
from recbole_perpeft.encoder.foundation.model_folder import quiet_transformers

NAME = "shop"
DEMO_ENCODER = Path(__file__).parent.parent / "dataset" / "demo" / "encoder"
CLIP_SIDE = 224
CLIP_POSITIONS = 77
_INTERESTS = "interests.npy"


@dataclass(frozen=True)
class Shop:
    """Where the shop's files are.

    Attributes
    ----------
    folder : Path
        Atomic files and ``images/``; its name is the data set's.
    encoder : Path
        A CLIP in Hugging Face's format.
    """

    folder: Path
    encoder: Path

    def groups(self, user_tokens: np.ndarray, num_groups: int) -> np.ndarray:
        """Groups of equal size of users with like interests, ``[n_users]``; for what comes after stage 2.

        The generator knows every user's interests: users are sorted by them and cut into parts.

        Parameters
        ----------
        user_tokens
            Token of every internal user id, padding first, ``[n_users]``.
        """
        interests = np.load(self.folder / _INTERESTS)
        numbers = np.array([int(token[1:]) - 1 for token in user_tokens[1:]])
        order = np.argsort(interests[numbers], kind="stable")
        groups = np.zeros(len(user_tokens), dtype=np.int64)
        groups[1 + order] = np.arange(len(order)) * num_groups // len(order)
        return groups

    def titles(self) -> dict[str, str]:
        """Item token to its title."""
        lines = (self.folder / f"{NAME}.item").read_text(encoding="utf-8").splitlines()[1:]
        return dict(line.split("\t")[:2] for line in lines)

    def picture(self, item_token: str) -> Path:
        """The item's picture."""
        return self.folder / "images" / f"{item_token}.png"


def make_shop(root: Path, encoder: str, n_items: int, n_users: int, n_pictures: int, seed: int) -> Shop:
    """Write a shop below ``root``.

    Parameters
    ----------
    root
        An existing folder.
    encoder
        ``demo``: the demo's encoder and pictures of its size. ``vit-b-32``: a CLIP of exactly the configuration of
        ViT-B/32 with random weights, pictures of 224 pixels, and titles of the length of Amazon's.
    n_pictures
        Different pictures; further items share them, each in a file of its own name.
    """
    catalogue = make_catalogue(n_items, seed)
    folder = root / NAME
    images = folder / "images"
    images.mkdir(parents=True)
    if encoder == "demo":
        side, encoder_folder = SIDE, DEMO_ENCODER
    else:
        side, encoder_folder = CLIP_SIDE, root / "encoder"
        catalogue = replace(catalogue, titles=_longer_titles(catalogue, seed))
        _save_clip(catalogue.titles, encoder_folder, seed)
    purchases = make_purchases(catalogue, n_users, seed)
    write_atomic_files(catalogue, purchases, folder)
    np.save(folder / _INTERESTS, purchases.groups)
    _write_pictures(catalogue, side, n_pictures, images)
    return Shop(folder, encoder_folder)


def _longer_titles(catalogue: Catalogue, seed: int) -> list[str]:
    """Every title in two wordings: about 21 tokens, as shops' titles have under CLIP's tokenizer."""
    again = write_titles(catalogue.values, np.array(shown_in(TITLE)), np.random.default_rng([seed, 5]))
    return [f"{title}; {other}" for title, other in zip(catalogue.titles, again, strict=True)]


def _save_clip(titles: list[str], folder: Path, seed: int) -> None:
    tokenizer = build_tokenizer(titles)
    tokenizer.model_max_length = CLIP_POSITIONS
    # the size of the vocabulary stays CLIP's, so that the number of parameters does too
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(seed)
    with quiet_transformers():
        save_encoder(CLIPModel(CLIPConfig(text_config=special)), tokenizer, CLIP_SIDE, folder)


def _write_pictures(catalogue: Catalogue, side: int, n_pictures: int, folder: Path) -> None:
    n_pictures = min(n_pictures, len(catalogue))
    rows = slice(n_pictures)
    drawn = replace(
        catalogue, values=catalogue.values[rows], titles=catalogue.titles[rows], jitter=catalogue.jitter[rows]
    )
    write_pictures(drawn, side, folder)
    item_ids = catalogue.item_ids
    for row in range(n_pictures, len(catalogue)):
        os.link(folder / f"{item_ids[row % n_pictures]}.png", folder / f"{item_ids[row]}.png")
