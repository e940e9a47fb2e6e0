"""The items' texts as token ids."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from recbole_perpeft.content.store import ArrayWriter, digest, ensure_store
from recbole_perpeft.utils.errors import ContentError

CHUNK = 2048  # texts per call of the tokenizer


def ensure_tokens(
    cache_dir: Path,
    item_ids: Sequence[str],
    texts: Sequence[str],
    tokenizer,
    max_length: int,
    *,
    show_progress: bool = True,
) -> tuple[Path, bool]:
    """Make the token store of the items unless it is there.

    Parameters
    ----------
    cache_dir
        Where the stores lie.
    item_ids
        External item ids, one per row.
    texts
        The rows' texts.
    tokenizer
        A Hugging Face tokenizer. One without a padding token pads with its end token.
    max_length
        Where longer texts are cut, in tokens.
    show_progress
        Whether to show a progress bar.

    Returns
    -------
    tuple of Path and bool
        The store's folder, with ``tokens.npy``: int32 ``[n_rows, max_length]``, padded on the right, and
        ``lengths.npy``: int32 ``[n_rows]``; and whether it was there already.

    Raises
    ------
    ContentError
        If the tokenizer has no token to pad with, or the store cannot be written.
    """
    key = digest([list(item_ids), list(texts), _settings(tokenizer), max_length])
    store = Path(cache_dir) / f"texts-{key}"

    def make(partial: Path) -> None:
        _write_tokens(partial, texts, _with_padding(tokenizer), max_length, show_progress)

    return store, ensure_store(store, make)


def _settings(tokenizer) -> list:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return [type(tokenizer).__name__, tokenizer.get_vocab(), tokenizer.init_kwargs]
    settings = json.loads(backend.to_str())
    # Left over from the tokenizer's last call, not settings of its own.
    settings.pop("truncation", None)
    settings.pop("padding", None)
    return [type(tokenizer).__name__, settings, tokenizer.special_tokens_map]


def _with_padding(tokenizer):
    if tokenizer.pad_token is not None:
        return tokenizer
    if tokenizer.eos_token is None:
        raise ContentError(
            f"The tokenizer {type(tokenizer).__name__} has neither a padding token nor an end token: choose "
            "another `text_encoder`, or set `pad_token` in its tokenizer_config.json."
        )
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _write_tokens(folder: Path, texts: Sequence[str], tokenizer, max_length: int, show_progress: bool) -> None:
    for name in ("tokens.npy", "lengths.npy"):
        (folder / name).unlink(missing_ok=True)  # of a killed run: seconds of work, not worth going on from
    with (
        ArrayWriter(folder / "tokens.npy", np.int32, (len(texts), max_length)) as tokens,
        ArrayWriter(folder / "lengths.npy", np.int32, (len(texts),)) as lengths,
        tqdm(total=len(texts), desc="Texts", disable=not show_progress) as progress,
    ):
        for start in range(0, len(texts), CHUNK):
            chunk = list(texts[start : start + CHUNK])
            encoded = tokenizer(
                chunk,
                truncation=True,
                max_length=max_length,
                padding="max_length",
                padding_side="right",
                return_attention_mask=True,
                return_tensors="np",
            )
            tokens.append(encoded["input_ids"].astype(np.int32))  # [n, max_length]
            # An empty text may have no token at all: one stays, as attention over nothing is not a number.
            lengths.append(np.maximum(encoded["attention_mask"].sum(axis=1), 1).astype(np.int32))  # [n]
            progress.update(len(chunk))
