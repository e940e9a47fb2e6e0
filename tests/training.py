"""Training tiny models in tests: to the end, until killed, or once for all tests that look at it."""

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from recbole_perpeft.data import encoding_windows
from recbole_perpeft.data.sampled_ranking import SampledRankingLoader
from recbole_perpeft.evaluation.ranked_rows import model_scorer
from recbole_perpeft.model.gradient_cache import encode_in_portions

KMEANS = {"grouping": "kmeans", "group_negatives": False}
COHERENCE = {"grouping": "coherence", "group_negatives": False}
# the settings that make training faster, together, and a softmax over all items
FAST = {"num_negatives": None, "peft_layers": 1, "batches_per_encoding": 2}
PEFTS = {"LORA": {"r": 2, "lora_dropout": 0.0}, "IA3": {}}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0}


class Killed(Exception):
    """Stands for a killed process."""


def fit(prepare, stop_after=None, resumed=None, **settings):
    """Train a tiny model, from a ``resumed`` checkpoint; with ``stop_after``, die after that epoch was written."""
    _, trainer, train_data, valid_data, test_data = prepare(**settings)
    if resumed:
        trainer.resume_checkpoint(resumed)

    def callback(epoch, score):
        if epoch == stop_after:
            raise Killed

    try:
        trainer.fit(train_data, valid_data, verbose=False, callback_fn=callback)
    except Killed:
        return trainer, None
    return trainer, trainer.evaluate(test_data)


class Recorded(NamedTuple):
    """A run to its end, and the checkpoint as it stood after each of its epochs."""

    trainer: object
    result: dict
    folder: Path

    @property
    def validated(self):
        """The epochs after which it was validated and written."""
        return sorted(int(file.stem) for file in self.folder.iterdir())

    def checkpoint(self, epoch):
        """A copy, in the working directory, of what a process that dies after ``epoch`` leaves."""
        return shutil.copy(self.folder / f"{epoch}.pth", "killed.pth")


def record(prepare, folder, **settings):
    """Train a tiny model to the end, keeping in ``folder`` what the checkpoint was after each validated epoch."""
    _, trainer, train_data, valid_data, test_data = prepare(**settings)
    folder.mkdir()

    def keep(epoch, score):
        shutil.copy(trainer.saved_model_file, folder / f"{epoch}.pth")

    trainer.fit(train_data, valid_data, verbose=False, callback_fn=keep)
    return Recorded(trainer, trainer.evaluate(test_data), folder)


def resume(prepare, file, **settings):
    """Go on from a checkpoint to the end; gives the trainer and its test result."""
    _, trainer, train_data, valid_data, test_data = prepare(**settings)
    trainer.resume_checkpoint(file)
    trainer.fit(train_data, valid_data, verbose=False)
    return trainer, trainer.evaluate(test_data)


def scripted(trainer, scores):
    """Let the validation after epoch i give ``scores[i]``."""
    remaining = iter(scores)

    def valid_epoch(valid_data, show_progress=False):
        score = next(remaining)
        return score, {"ndcg@10": score}

    trainer._valid_epoch = valid_epoch


def same(first, second):
    return all(torch.equal(value, second[key]) for key, value in first.items()) and first.keys() == second.keys()


def move_modules(model, num_groups=3, seed=5):
    """Change every group's PEFT module and projector, each in another way."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for group in range(num_groups):
            for parameter in model.item_tower.group_parameters(group):
                parameter.add_(0.3 * torch.randn_like(parameter))
    model.invalidate()


def scatter_groups(model, train_data, num_groups=3):
    """Put users into groups by turns and make every group's module different."""
    users = np.fromiter(train_data.histories, dtype=np.int64)
    groups = np.arange(len(users)) % num_groups
    model.personalise(users, groups)
    move_modules(model, num_groups)
    model.forget()
    train_data.set_groups(model.user_groups.numpy(), group_negatives=True)


def soften_at_random(model, degree, temperature=4.0):
    """Let users have ``degree`` of their scores from several groups, by losses that are drawn."""
    losses = torch.rand(model.group_losses.shape, generator=torch.Generator().manual_seed(6)) * 9
    model.group_losses.copy_(losses)
    model.group_softness.fill_(degree)
    model.group_temperature.fill_(temperature)


def gradients(model, loss):
    """Gradients of ``loss`` by the names of the parameters that have one."""
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def portions_of(items, size):
    """As ``encode_in_portions`` cuts them: the last, whose graph is kept, is whole."""
    return [*items[:-size].split(size), items[-size:]]


def gradients_of_portions(encode, items, size, parameters, upstream):
    """Gradients of ``parameters`` with ``items`` encoded ``size`` at a time: by hand, and by ``encode_in_portions``."""
    found = []
    for way in (
        lambda: torch.cat([encode(part) for part in portions_of(items, size)]),
        lambda: encode_in_portions(encode, items, size, upstream),
    ):
        torch.manual_seed(0)  # of its dropout
        features = way()
        torch.rand(1, device=upstream.device)  # what is drawn in between
        found.append(torch.autograd.grad(features, parameters, upstream, allow_unused=True))
    return found


def allow_passes(patch, passes):
    """Let an epoch take so many passes over the catalogue; tiny data in three groups need no more than three."""
    for name in ("_MOST_PASSES", "_OF_SHARES"):
        patch.setattr(encoding_windows, name, passes)


def mean_gain(trainer, loader):
    """What searches go by with NDCG@20: mean of log(80 / (20 + 2 above)) of the positives, 0 from 30 on, by a loop."""
    gains = []
    for batch in loader:
        with torch.no_grad(), model_scorer(trainer, loader) as score:
            _, scores, users, items = score(batch)
        for row, item in zip(users.tolist(), items.tolist(), strict=True):
            above = int((scores[row] > scores[row, item]).sum())
            gains.append(np.log(80 / (20 + 2 * above)) if above < 30 else 0)
    return np.mean(gains)


def by_predict(loader):
    """The loader of the same draws, a row for each user and candidate, which RecBole's ``predict`` scores."""
    same = SampledRankingLoader(loader.config, loader._dataset, loader._sampler)
    same.known = getattr(loader, "known", None)
    return same
