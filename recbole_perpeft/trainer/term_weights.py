"""How much the terms beside the backbone weigh in a model's scores: found in validation, among a few weights."""

from itertools import product

import torch
from recbole.trainer import Trainer
from torch import nn

from recbole_perpeft.evaluation.rank_gain import end_of, rank_gains, some_batches
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


def rounds(n_items: int) -> tuple[int, int]:
    """Over how many users each round of a search goes; over fewer in a large catalogue."""
    least, most = _SECOND
    return _FIRST, min(max(_SCORED // n_items, least), most)


def find_term_weights(trainer: Trainer, valid_data) -> None:
    """Give the terms of a model's scores the weights and forms that rank the validation purchases best.

    Best is NDCG of lists as long as those of ``valid_metric``, or longer. The content term is weighed beside the
    backbone and the purchase term beside both, over some of the users; then each beside all the rest, over more.

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


@torch.no_grad()
def _find(trainer: Trainer, valid_data, part: Part, term: nn.Module, rows: int) -> None:
    """Give one term its weight and form, by some of the users."""
    term.weight.zero_()
    forms, candidates = _FORMS[part], CANDIDATES[part]
    gains, units, end = torch.zeros(len(candidates), dtype=torch.float64), None, end_of(trainer.config["valid_metric"])
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
                gains[form :: len(forms)] += rank_gains(others, of_form, weights, *positives, end)
    gains = processes.total(gains).round(decimals=6)  # equal ones are, in whatever order they were added up
    share, form = candidates[int(gains.argmax())]
    _take(term, forms[form])
    term.weight.fill_(share * units[form])


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
