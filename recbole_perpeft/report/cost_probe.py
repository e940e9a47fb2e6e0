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

from recbole_perpeft.data.item_lists import LEAST_ROWS
from recbole_perpeft.evaluation.rank_gain import rank_gains
from recbole_perpeft.evaluation.top_items import top_items
from recbole_perpeft.likeness.similarity import LikenessMap
from recbole_perpeft.model.id_rows import rows_and_norm
from recbole_perpeft.model.projector import projector
from recbole_perpeft.model.purchase_term import PurchaseTerm
from recbole_perpeft.report.cost_sizes import Batches, Sizes, Tower
from recbole_perpeft.trainer.term_weights import heights

_ITEMS = 64  # that a probe encodes at a time
_FEATURES = 2048  # of items, that are projected and compared
_TABLE = 100_000  # rows of a table at most: longer ones take in proportion
_REPEATS = 3
_FEW = 1e-3  # of sequences: a length that no more have is not probed
_SCORES = 2**18  # of users at a time: of fewer, calls would be a large part
_WEIGHTS = 8  # that scores are tried with at a time
_ADAPTED = 1.25  # of a layer's time with adapters in it, in times of the layer's alone, where products are not probed
_PILLOW = 1.25  # seconds of a picture in the store, in times of Pillow's (docs/speed.md)
_TEXT = 5e-5  # seconds of a title in the tokenizer


@dataclass(frozen=True)
class Rates:
    """Seconds of pieces of a run.

    Attributes
    ----------
    forward, training : dict
        By modality, of an operation of the tower in a forward pass, in which adapters are merged, and in one with the
        backward pass through it, with what adapters add.
    picture, text : float
        To open a picture, and to cut a title into tokens.
    backbone : dict
        Of the backbone's part of a step, by stage: batches are smaller in stage 3, if groups are.
    user : float
        Of a user in a ranking.
    projected, projected_training : float
        Of an item in the projector, in a forward pass, and with the backward pass.
    vectors : float
        In which an item's features are made ready for the content term.
    id_row : float
        Of a row of the id table in a step of the optimiser and its average.
    score, weighed, loss, height : float
        Of an item's score for a user in a ranking, with one of the weights of a search, in the loss of a purchase over
        all items, and in the units of a search.
    added : float
        Of what an item that was bought adds to the score of one that is near it.
    """

    forward: dict[str, float]
    training: dict[str, float]
    picture: float
    text: float
    backbone: dict[int, float]
    user: float
    projected: float
    projected_training: float
    vectors: float
    id_row: float
    score: float
    weighed: float
    loss: float
    height: float
    added: float


def measured(sizes: Sizes, dtype: torch.dtype, tflops: float | None) -> Rates:
    """The rates here, for a run of ``sizes``; products of the encoder as fast as ``tflops`` says, if it does."""
    towers = sizes.towers.items()
    if tflops:
        forward = dict.fromkeys(sizes.towers, 1e-12 / tflops)
        training = dict.fromkeys(sizes.towers, 2 * _ADAPTED * 1e-12 / tflops)
    else:
        adapted = not sizes.is_frozen
        forward = {modality: _layer(tower, dtype, backward=False) for modality, tower in towers}
        training = {modality: _layer(tower, dtype, backward=True, adapted=adapted) for modality, tower in towers}
    picture = _picture(sizes.towers["image"].side) if "image" in sizes.towers else 0.0
    first, third = sizes.batches(1), sizes.batches(sizes.groups)
    backbone = {1: _backbone(sizes, first)}
    backbone[3] = backbone[1] if (third.users, third.items) == (first.users, first.items) else _backbone(sizes, third)
    of_items = *_projected(sizes), _vectors(sizes.compared_width), _id_row(sizes.width)
    return Rates(forward, training, picture, _TEXT, backbone, _user(sizes), *of_items, *_scores(sizes), _added(sizes))


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


def _layer(tower: Tower, dtype: torch.dtype, backward: bool, adapted: bool = False) -> float:
    """Seconds of an operation in a layer of the tower; ``adapted``: with LoRA of the usual rank on query and value."""
    d, inner, heads = tower.width, tower.inner, tower.heads
    maps = nn.ModuleDict({name: nn.Linear(d, d) for name in ("query", "key", "value", "out")})
    maps.update({"up": nn.Linear(d, inner), "down": nn.Linear(inner, d)})
    norms = nn.ModuleList([nn.LayerNorm(d), nn.LayerNorm(d)])
    maps.to(dtype).requires_grad_(False)
    names = ("query", "value") if adapted else ()
    lora = {
        name: nn.Sequential(nn.Dropout(), nn.Linear(d, 4, bias=False), nn.Linear(4, d, bias=False)) for name in names
    }
    states = torch.randn(_ITEMS, tower.tokens, d, requires_grad=backward)
    attention = F.scaled_dot_product_attention if dtype == torch.float32 else _plain_attention

    def mapped(name: str, normed: torch.Tensor) -> torch.Tensor:
        result = maps[name](normed)
        if name in lora:
            result = result + 2 * lora[name](normed)
        return result.unflatten(-1, (heads, -1)).transpose(1, 2)

    def run() -> None:
        with torch.set_grad_enabled(backward), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            normed = norms[0](states)
            parts = [mapped(name, normed) for name in ("query", "key", "value")]
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


def _layers(width: int) -> nn.Module:
    """A transformer as SASRec is one."""
    layer = nn.TransformerEncoderLayer(width, 2, 4 * width, activation="gelu", batch_first=True)
    return nn.TransformerEncoder(layer, 2)


def _backbone(sizes: Sizes, batches: Batches) -> float:
    """A step of it, with its softmax over the batch's items."""
    d, users, length, layers = sizes.width, batches.users, sizes.purchases, _layers(sizes.width)
    items = nn.Parameter(torch.randn(batches.items, d))
    sequences = torch.randint(len(items), (users, length))
    mask = nn.Transformer.generate_square_subsequent_mask(length)
    barred = torch.zeros(users * length, len(items), dtype=torch.bool)

    def step() -> None:
        outputs = layers(items[sequences], mask=mask, is_causal=True).flatten(0, 1)  # [n, d]
        logits = (outputs @ items.T).masked_fill(barred, -1e9)
        F.cross_entropy(logits, sequences.flatten()).backward()

    return _seconds(step)


def _user(sizes: Sizes) -> float:
    """A user in a ranking."""
    layers = _layers(sizes.width).eval()  # with gradient: without it torch takes a shorter way than RecBole's layers

    def of_length(length: int) -> float:
        whole = torch.randn(_ITEMS, length, sizes.width)
        return _seconds(lambda: layers(whole)) / _ITEMS

    return sum(share * of_length(length) for length, share in sizes.read_lengths.items() if share > _FEW)


def _projected(sizes: Sizes) -> tuple[float, float]:
    """An item in the projector, forwards, and forwards and back."""
    network = projector(sizes.compared_width, sizes.settings["projector_size"], sizes.width)
    features = torch.randn(_FEATURES, sizes.compared_width, requires_grad=True)

    @torch.no_grad()
    def forwards() -> None:
        network(features)

    return _seconds(forwards) / _FEATURES, _seconds(lambda: network(features).sum().backward()) / _FEATURES


def _vectors(width: int) -> float:
    features = torch.randn(_FEATURES, width)
    return _seconds(lambda: LikenessMap.fitted(features)(features)) / _FEATURES


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


def _scores(sizes: Sizes) -> tuple[float, float, float, float]:
    n = min(sizes.items, _TABLE)
    rows = max(LEAST_ROWS, min(sizes.users, _SCORES // n))
    queries, table = torch.randn(rows, sizes.width), torch.randn(n, sizes.width)
    profiles, vectors = torch.randn(rows, sizes.compared_width), torch.randn(n, sizes.compared_width)

    def ranked() -> None:
        top_items(torch.addmm(queries @ table.T, profiles, vectors.T), 30)

    some, other, weights = torch.randn(rows, n), torch.randn(rows, n), (0.5,) * _WEIGHTS
    positives = torch.arange(rows), torch.zeros(rows, dtype=torch.long)

    def weighed() -> None:
        rank_gains(some, other, weights, *positives, n)  # none is left out

    def loss() -> None:
        F.cross_entropy(queries @ table.T, torch.zeros(rows, dtype=torch.long), reduction="none")

    runs = (ranked, 1), (weighed, _WEIGHTS), (loss, 1), (lambda: heights(some), 1)
    return tuple(_seconds(run) / (rows * n * times) for run, times in runs)


def _added(sizes: Sizes) -> float:
    users, length = 512, sizes.purchases
    n = min(sizes.items, users * length)
    bought = torch.randint(1, n + 1, (users, length))
    term = PurchaseTerm([of_user.numpy() for of_user in bought], n + 1)
    some, scores = bought[:_ITEMS], torch.randn(_ITEMS, n + 1)
    return _seconds(lambda: term.add_to(scores, some)) / len(term.additions(some).rows)
