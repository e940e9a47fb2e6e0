"""Rates of this machine, from pieces of a run that take seconds: what an estimate scales up."""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from recbole_perpeft.evaluation.rank_gain import rank_gains
from recbole_perpeft.evaluation.top_items import top_items
from recbole_perpeft.model.id_rows import rows_and_norm
from recbole_perpeft.report.cost_sizes import Sizes, Tower

_ITEMS = 64  # that a probe encodes at a time
_TABLE = 100_000  # rows of a table at most: longer ones take in proportion
_REPEATS = 3
_WEIGHTS = 8  # that scores are tried with at a time
_PILLOW = 1.25  # seconds of a picture in the store, in times of Pillow's (docs/speed.md)
_TEXT = 5e-5  # seconds of a title in the tokenizer


@dataclass(frozen=True)
class Rates:
    """Seconds of pieces of a run.

    Attributes
    ----------
    forward, training : dict
        By modality, of an operation of the tower in a forward pass, and in one with the backward pass through it.
    picture, text : float
        To open a picture, and to cut a title into tokens.
    backbone, user : float
        Of the backbone's part of a step, and of a user in a ranking.
    id_row : float
        Of a row of the id table in a step of the optimiser and its average.
    score, weighed, loss : float
        Of an item's score for a user in a ranking, in the search for the content term's weight, and in the loss of a
        purchase over all items.
    """

    forward: dict[str, float]
    training: dict[str, float]
    picture: float
    text: float
    backbone: float
    user: float
    id_row: float
    score: float
    weighed: float
    loss: float


def measured(sizes: Sizes, dtype: torch.dtype, tflops: float | None) -> Rates:
    """The rates here, for a run of ``sizes``; products of the encoder as fast as ``tflops`` says, if it does."""
    towers = sizes.towers.items()
    if tflops:
        forward = dict.fromkeys(sizes.towers, 1e-12 / tflops)
        training = dict.fromkeys(sizes.towers, 2e-12 / tflops)
    else:
        forward = {modality: _layer(tower, dtype, backward=False) for modality, tower in towers}
        training = {modality: _layer(tower, dtype, backward=True) for modality, tower in towers}
    picture = _picture(sizes.towers["image"].side) if "image" in sizes.towers else 0.0
    return Rates(forward, training, picture, _TEXT, *_backbone(sizes), _id_row(sizes.width), *_scores(sizes))


def _seconds(run: Callable[[], object]) -> float:
    """The least of a few times; of one thread the processor's, which other work disturbs little."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    run()
    found = []
    for _ in range(_REPEATS):
        start = clock()
        run()
        found.append(clock() - start)
    return min(found)


def _layer(tower: Tower, dtype: torch.dtype, backward: bool) -> float:
    """Seconds of an operation in a layer of the tower."""
    d, inner, heads = tower.width, tower.inner, tower.heads
    maps = nn.ModuleDict({name: nn.Linear(d, d) for name in ("query", "key", "value", "out")})
    maps.update({"up": nn.Linear(d, inner), "down": nn.Linear(inner, d)})
    norms = nn.ModuleList([nn.LayerNorm(d), nn.LayerNorm(d)])
    maps.to(dtype).requires_grad_(False)
    states = torch.randn(_ITEMS, tower.tokens, d, requires_grad=backward)
    attention = F.scaled_dot_product_attention if dtype == torch.float32 else _plain_attention

    def run() -> None:
        with torch.set_grad_enabled(backward), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            normed = norms[0](states)
            parts = [
                maps[name](normed).unflatten(-1, (heads, -1)).transpose(1, 2) for name in ("query", "key", "value")
            ]
            after = states + maps["out"](attention(*parts).transpose(1, 2).flatten(2))
            result = after + maps["down"](F.gelu(maps["up"](norms[1](after))))
        if backward:
            result.sum().backward()

    return _seconds(run) / (_ITEMS * tower.layer_operations)


def _plain_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """As it is run on a CPU in half precision, where torch's own is slow backwards."""
    return (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(dim=-1).to(value.dtype) @ value


def _picture(side: int) -> float:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (2 * side, 2 * side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "JPEG")

    def run() -> None:
        file.seek(0)
        with Image.open(file) as picture:
            np.asarray(picture.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))

    return _PILLOW * _seconds(run)


def _backbone(sizes: Sizes) -> tuple[float, float]:
    """A step of a transformer as SASRec is one, with its softmax over the batch's items, and a user in a ranking."""
    d, users, length = sizes.width, sizes.users_of_a_batch, sizes.purchases
    layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(d, 2, 4 * d, activation="gelu", batch_first=True), 2)
    items = nn.Parameter(torch.randn(sizes.items_of_a_batch, d))
    sequences = torch.randint(len(items), (users, length))
    mask = nn.Transformer.generate_square_subsequent_mask(length)
    barred = torch.zeros(users * length, len(items), dtype=torch.bool)

    def step() -> None:
        outputs = layers(items[sequences], mask=mask, is_causal=True).flatten(0, 1)  # [n, d]
        logits = (outputs @ items.T).masked_fill(barred, -1e9)
        F.cross_entropy(logits, sequences.flatten()).backward()

    seconds, whole = _seconds(step), torch.randn(_ITEMS, sizes.settings["MAX_ITEM_LIST_LENGTH"], d)
    layers.eval()  # with gradient: without it torch takes a shorter way than RecBole's layers
    return seconds, _seconds(lambda: layers(whole)) / _ITEMS


def _id_row(width: int) -> float:
    table = nn.Parameter(torch.randn(_TABLE, width))
    average = table.detach().clone()
    optimizer = torch.optim.AdamW([table], weight_decay=1e-4, fused=True)

    def run() -> None:
        optimizer.zero_grad()
        rows, norm = rows_and_norm(table, torch.arange(1, 257))
        (rows.sum() + 0.1 * norm).backward()
        optimizer.step()
        torch._foreach_lerp_([average], [table.data], 0.1)

    return _seconds(run) / _TABLE


def _scores(sizes: Sizes) -> tuple[float, float, float]:
    rows, n = 16, min(sizes.items, _TABLE)
    queries, table = torch.randn(rows, sizes.width), torch.randn(n, sizes.width)
    profiles, vectors = torch.randn(rows, sizes.compared_width), torch.randn(n, sizes.compared_width)

    def ranked() -> None:
        top_items(torch.addmm(queries @ table.T, profiles, vectors.T), 30)

    some, other, weights = torch.randn(rows, n), torch.randn(rows, n), (0.5,) * _WEIGHTS
    positives = torch.arange(rows), torch.zeros(rows, dtype=torch.long)

    def weighed() -> None:
        rank_gains(some, other, weights, *positives)

    def loss() -> None:
        F.cross_entropy(queries @ table.T, torch.zeros(rows, dtype=torch.long), reduction="none")

    return tuple(_seconds(run) / (rows * n * times) for run, times in ((ranked, 1), (weighed, _WEIGHTS), (loss, 1)))
