"""How much the terms beside the backbone weigh in a model's scores: found in validation, among a few weights."""

from itertools import product

import torch
from recbole.trainer import Trainer
from torch import nn

from recbole_perpeft.evaluation.rank_gain import length_of, rank_gains, some_batches
from recbole_perpeft.evaluation.ranked_rows import model_scorer
from recbole_perpeft.model.score_parts import Part, only
from recbole_perpeft.utils import processes

_FIRST = 1000  # users of the first round
_SECOND = (1500, 6000)  # of the second at least and at most
_SCORED = 2**27  # scores of one part in the second round
# How far the term's best item is above its mean, as a share of how far the best of the other scores is above theirs.
_SHARES = (0.0, *(0.03 * 10 ** (step / 6) for step in range(13)))  # to 3, above which the others have no say
# What is tried beside the weight, by the term's buffers.
_FORMS = {
    Part.CONTENT: tuple({"decay": decay} for decay in (0.65, 0.8, 1.0)),
    Part.PURCHASES: tuple({"decay": decay, "damping": damping} for decay, damping in product((0.8, 1.0), (0.0, 0.5))),
}
CANDIDATES = {
    Part.CONTENT: tuple(product(_SHARES, range(len(_FORMS[Part.CONTENT])))),
    Part.PURCHASES: tuple(product(_SHARES[:1] + _SHARES[1::2], range(len(_FORMS[Part.PURCHASES])))),
}
FACTORS = tuple(2 ** (step / 2) for step in range(-4, 7))  # that both weights are tried with, to 8


def rounds(n_items: int) -> tuple[int, int]:
    """Over how many users each round of a search goes; over fewer in a large catalogue."""
    least, most = _SECOND
    return _FIRST, min(max(_SCORED // n_items, least), most)


def find_term_weights(trainer: Trainer, valid_data) -> None:
    """Give the terms of a model's scores the weights and forms that rank the validation purchases best.

    Best is the largest gain (:mod:`~recbole_perpeft.evaluation.rank_gain`). The content term is weighed beside the
    backbone, the purchase term beside both, and then both together beside the backbone, over some of the users; then
    each beside all the rest, and both together again, over more.

    Parameters
    ----------
    trainer
        Of a model with ``score_terms``, as it is to be validated.
    valid_data
        The validation's loader, of full or sampled rankings.
    """
    if hasattr(trainer.model, "encode_catalogues"):  # all processes together, before each has batches of its own
        trainer.model.encode_catalogues()
    terms = {part: term for part, term in trainer.model.score_terms.items() if term is not None}
    for term in terms.values():
        term.weight.zero_()
    of_rounds = rounds(trainer.model.n_items)
    for rows in of_rounds if len(terms) > 1 else of_rounds[-1:]:
        for part, term in terms.items():
            _find(trainer, valid_data, part, term, rows)
        if len(terms) > 1:
            _scale(trainer, valid_data, list(terms.values()), rows)


@torch.no_grad()
def _find(trainer: Trainer, valid_data, part: Part, term: nn.Module, rows: int) -> None:
    """Give one term its weight and form, by some of the users."""
    term.weight.zero_()
    forms, candidates = _FORMS[part], CANDIDATES[part]
    gains, units = torch.zeros(len(candidates), dtype=torch.float64), None
    k = length_of(trainer.config["valid_metric"], trainer.model.n_items)
    with model_scorer(trainer, valid_data) as score:
        for number, batch in enumerate(some_batches(valid_data, rows)):
            if number and not processes.is_own(number):  # the first one gives the units
                continue
            others, positives = _scores(Part.ALL, trainer.model, score, batch)
            added = []
            for form in forms:
                _take(term, form)
                added.append(_scores(part, trainer.model, score, batch)[0])
            if units is None:
                of_others = height(others)
                units = [of_others / height(of_form) for of_form in added]
            if not processes.is_own(number):
                continue
            for form, of_form in enumerate(added):
                weights = [share * units[form] for share, own in candidates if own == form]
                gains[form :: len(forms)] += rank_gains(others, of_form, weights, *positives, k)
    share, form = candidates[_best(gains)]
    _take(term, forms[form])
    term.weight.fill_(share * units[form])


@torch.no_grad()
def _scale(trainer: Trainer, valid_data, terms: list[nn.Module], rows: int) -> None:
    """Multiply the weights of all terms by what is best for them together, by some of the users.

    What one term may weigh depends on the other's weight: each beside the rest stays near where it is.
    """
    gains = torch.zeros(len(FACTORS), dtype=torch.float64)
    k = length_of(trainer.config["valid_metric"], trainer.model.n_items)
    with model_scorer(trainer, valid_data) as score:
        for number, batch in enumerate(some_batches(valid_data, rows)):
            if processes.is_own(number):
                backbone, positives = _scores(Part.BACKBONE, trainer.model, score, batch)
                together, _ = _scores(Part.ALL, trainer.model, score, batch)
                added = (together - backbone).masked_fill_(backbone.isinf(), -torch.inf)
                gains += rank_gains(backbone, added, FACTORS, *positives, k)
    for term in terms:
        term.weight.mul_(FACTORS[_best(gains)])


def _best(gains: torch.Tensor) -> int:
    """Which of the gains is the largest, over all processes; the first of equal ones."""
    return int(processes.total(gains).round(decimals=6).argmax())  # in whatever order they were added up


def _take(term: nn.Module, form: dict[str, float]) -> None:
    for name, value in form.items():
        getattr(term, name).fill_(value)


def _scores(part: Part, model: nn.Module, score, batch: tuple) -> tuple[torch.Tensor, tuple]:
    """One part of the scores ``[rows, n_items]``, minus infinity for what is not ranked; and the positives."""
    with only(part, model):
        _, scores, *positives = score(batch)
    return scores, tuple(rows.to(scores.device) for rows in positives)


def height(scores: torch.Tensor) -> float:
    """How far a row's best item is above the mean of its ranked ones, mean of the rows; 1 where all are alike."""
    ranked = scores.isfinite()
    means = torch.where(ranked, scores, 0.0).double().sum(dim=1) / ranked.sum(dim=1).clamp(min=1)
    heights = scores.amax(dim=1).double() - means
    return float(heights[ranked.any(dim=1)].mean().nan_to_num()) or 1.0
