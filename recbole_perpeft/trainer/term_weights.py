"""How much the terms beside the backbone weigh in a model's scores: found in validation, among a few weights."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from recbole.trainer import Trainer
from torch import nn

from recbole_perpeft.evaluation.rank_gain import length_of, rank_gains, some_batches
from recbole_perpeft.evaluation.ranked_rows import model_scorer
from recbole_perpeft.model.score_parts import Part, only
from recbole_perpeft.utils import processes

_FIRST = 1000  # users of the first round
MEASURED = 64  # users whose scores give the units of the weights
_SECOND = (1500, 6000)  # of the second at least and at most
_SCORED = 2**27  # scores of one part in the second round
KEPT = 2**25  # scores of the backbone that are kept for the whole of a round
# How far the term's best item is above its mean, as a share of how far the best of the other scores is above theirs.
_SHARES = (0.0, *(0.03 * 10 ** (step / 6) for step in range(13)))  # to 3, above which the others have no say
_LEAST = 0.01  # share below which a weight is as none: it changes so few ranks that it would only fall on
# What is tried beside the weight, by the term's buffers.
FORMS = {
    Part.CONTENT: tuple({"decay": decay} for decay in (0.65, 0.8, 1.0)),
    Part.PURCHASES: tuple({"decay": decay, "damping": damping} for decay, damping in product((0.8, 1.0), (0.0, 0.5))),
}
SHARES_OF = {Part.CONTENT: _SHARES, Part.PURCHASES: _SHARES[:1] + _SHARES[1::2]}
FACTORS = tuple(2 ** (step / 2) for step in range(-4, 7))  # that both weights are tried with, to 8
NEAR = tuple(2 ** (step / 2) for step in range(-2, 3))  # that each is tried with beside each of the other's
AGAIN = (0.5**0.5, 2**0.5)  # that each form of the purchase term is tried with


def rounds(n_items: int) -> tuple[int, int]:
    """Over how many users each round of a search goes; over fewer in a large catalogue."""
    least, most = _SECOND
    return _FIRST, min(max(_SCORED // n_items, least), most)


def find_term_weights(trainer: Trainer, valid_data) -> None:
    """Give the terms of a model's scores the weights and forms that rank the validation purchases best.

    Best is the largest gain (:mod:`~recbole_perpeft.evaluation.rank_gain`). The first time the content term is weighed
    beside the backbone, the purchase term beside both, and then both together beside the backbone, over some of the
    users. Each time follow, over more users, the forms of one with those of the other, and each weight near its own
    with each near the other's. A term alone is weighed over these.

    Parameters
    ----------
    trainer
        Of a model with ``score_terms``, as it is to be validated.
    valid_data
        The validation's loader, of full or sampled rankings.
    """
    model = trainer.model
    if hasattr(model, "encode_catalogues"):  # all processes together, before each has batches of its own
        model.encode_catalogues()
    terms = {part: term for part, term in model.score_terms.items() if term is not None}
    if not terms:
        return
    by_modules = _goes_by_modules(terms)
    k, (first, second) = length_of(trainer.config["valid_metric"], model.n_items), rounds(model.n_items)
    with torch.no_grad(), model_scorer(trainer, valid_data) as score:
        views = views_of(terms.get(Part.CONTENT), model)
        if len(terms) > 1:
            weighed = [bool(term.weight) for term in terms.values()]
            if not all(weighed):  # else those of the validation before are near
                for term in terms.values():
                    term.weight.zero_()
                search = _Round(model, terms, score, valid_data, first, k)
                for part in terms:
                    search.find(part, FORMS[part])
                search.scale()
            for _ in range(1 if any(weighed) else 2):  # the first time, for so few users can be wrong
                _Round(model, terms, score, valid_data, -(-second // 2), k).forms_together()
                _Round(model, terms, score, valid_data, second, k).together(views)
        else:
            (part,) = terms
            forms = [{**view, **form} for view, form in product(views, FORMS[part])]
            _Round(model, terms, score, valid_data, second, k).find(part, forms)
    if _goes_by_modules(terms) != by_modules:
        trainer.logger.info(
            f"Content term: items are compared {'without' if by_modules else 'as seen through'} the PEFT modules from "
            "here on, which ranks the validation purchases better"
        )


def views_of(term: nn.Module | None, model: nn.Module) -> Sequence[dict[str, float]]:
    """Through what the content term may compare items: the modules, and nothing where these learn from it."""
    if term is None or not term.can_be_frozen:
        return ({},)
    term.read_frozen(model.item_tower.encoder)
    return tuple({"by_modules": own} for own in (1.0, 0.0))


def _goes_by_modules(terms: dict[Part, nn.Module]) -> bool:
    term = terms.get(Part.CONTENT)
    return term is None or bool(term.by_modules)


class _Round:
    """A search by some of the users.

    Parameters
    ----------
    model
        Whose ``terms`` are weighed.
    score
        From :func:`~recbole_perpeft.evaluation.ranked_rows.model_scorer`.
    valid_data
        The validation's loader.
    most
        How many users are asked at most.
    k
        From :func:`~recbole_perpeft.evaluation.rank_gain.length_of`.
    """

    def __init__(self, model: nn.Module, terms: dict[Part, nn.Module], score, valid_data, most: int, k: int):
        self._model, self._terms, self._score, self._k = model, terms, score, k
        self._measured = list(some_batches(valid_data, MEASURED))
        self._batches = list(some_batches(valid_data, most))
        self._keeps = min(most, len(valid_data.rows_in_order())) * model.n_items <= KEPT
        self._backbone: dict[int, tuple[torch.Tensor, tuple]] = {}  # of each batch, where all together are few

    def find(self, part: Part, forms: Sequence[dict[str, float]]) -> None:
        """Give one term the weight and the one of ``forms`` that are best beside all the rest."""
        term = self._terms[part]
        weights = [[share * unit for share in SHARES_OF[part]] for unit in self._units(part, forms)]
        gains = torch.zeros(len(SHARES_OF[part]), len(forms), dtype=torch.float64)
        for number, batch in enumerate(self._batches):
            if not processes.is_own(number):
                continue
            others, positives = self._sum(batch, self._of_backbone(number), without=part)
            for form, setting in enumerate(forms):
                _take(term, setting)
                of_form, _ = self._scores(batch, part)
                gains[:, form] += rank_gains(others, of_form, weights[form], *positives, self._k)
        share, form = np.unravel_index(_best(gains.flatten()), gains.shape)
        _take(term, {**forms[form], "weight": weights[form][share]})

    def _units(self, part: Part, forms: Sequence[dict[str, float]]) -> list[float]:
        """The weight with which each form of a term spreads a user's scores as far as the rest does.

        Of some users whatever the size of a batch, and the same ones in each process.
        """
        term = self._terms[part]
        of_others, of_forms = [], [[] for _ in forms]
        for batch in self._measured:
            others, _ = self._sum(batch, self._scores(batch, Part.BACKBONE), without=part)
            of_others.append(heights(others))
            for found, form in zip(of_forms, forms, strict=True):
                _take(term, form)
                found.append(heights(self._scores(batch, part)[0]))
        return [_mean(of_others) / _mean(found) for found in of_forms]

    def scale(self) -> None:
        """Multiply the weights of all terms by what is best for them together.

        What one term may weigh depends on the other's weight: each beside the rest stays near where it is.
        """
        gains = torch.zeros(len(FACTORS), dtype=torch.float64)
        for number, batch in enumerate(self._batches):
            if processes.is_own(number):
                backbone, positives = self._of_backbone(number)
                added = self._sum(batch, (backbone, positives))[0] - backbone
                added.masked_fill_(backbone.isinf(), -torch.inf)
                gains += rank_gains(backbone, added, FACTORS, *positives, self._k)
        factor = FACTORS[_best(gains)]
        for term in self._terms.values():
            term.weight.mul_(factor)

    def forms_together(self) -> None:
        """Give both terms the forms that are best with each other, the purchase term a weight near its own."""
        (of_content, _), (of_purchases, _) = self._terms.items()
        alike = self._near(of_content, FORMS[of_content], (1.0,))
        bought = self._near(of_purchases, FORMS[of_purchases], AGAIN)
        self._weigh_both(FORMS[of_content], alike, FORMS[of_purchases], bought)

    def together(self, views: Sequence[dict[str, float]]) -> None:
        """Give both terms the weights, near those that they have, that are best with each other, and the best view."""
        of_content, of_purchases = self._terms
        bought = self._near(of_purchases, ({},), NEAR)  # first, beside the content as it is seen now
        self._weigh_both(views, self._near(of_content, views, NEAR), ({},), bought)

    def _weigh_both(
        self,
        forms: Sequence[dict[str, float]],
        weights: list[list[float]],
        forms_of_purchases: Sequence[dict[str, float]],
        weights_of_purchases: list[list[float]],
    ) -> None:
        """Give both terms what is best together of their forms, and of the weights of each form, ``[forms][n]``."""
        (of_content, content), (of_purchases, purchases) = self._terms.items()
        shape = len(forms), len(weights[0]), len(forms_of_purchases), len(weights_of_purchases[0])
        gains = torch.zeros(shape, dtype=torch.float64)
        for number, batch in enumerate(self._batches):
            if not processes.is_own(number):
                continue
            backbone, positives = self._scores(batch, Part.BACKBONE)  # once: nothing is to be kept
            bought = []
            for form in forms_of_purchases:
                _take(purchases, form)
                bought.append(self._scores(batch, of_purchases)[0])
            for form, setting in enumerate(forms):
                _take(content, setting)
                alike, _ = self._scores(batch, of_content)
                for own, weight in enumerate(weights[form]):
                    both = torch.add(backbone, alike, alpha=weight)
                    for other, tried in enumerate(weights_of_purchases):
                        gains[form, own, other] += rank_gains(both, bought[other], tried, *positives, self._k)
        form, own, other, tried = np.unravel_index(_best(gains.flatten()), shape)
        _take(content, {**forms[form], "weight": weights[form][own]})
        _take(purchases, {**forms_of_purchases[other], "weight": weights_of_purchases[other][tried]})

    def _near(self, part: Part, forms: Sequence[dict[str, float]], factors: Sequence[float]) -> list[list[float]]:
        """Weights to try of each form: near the term's own or, if it has as good as none, some of all."""
        weight = float(self._terms[part].weight)
        if weight and len(forms) == 1:
            return [[factor * weight for factor in factors]]
        (own,) = self._units(part, ({},))  # of the form that it has
        units = self._units(part, forms)
        if weight < _LEAST * own:
            return [[share * unit for share in SHARES_OF[part][::3]] for unit in units]
        return [[factor * weight * unit / own for factor in factors] for unit in units]

    def _sum(
        self, batch: tuple, backbone: tuple[torch.Tensor, tuple], without: Part | None = None
    ) -> tuple[torch.Tensor, tuple]:
        """Scores of a batch with the terms as they weigh now, ``[rows, n_items]``, and its positives."""
        scores, positives = backbone
        for part, term in self._terms.items():
            if term.weight and part is not without:
                scores = torch.addcmul(scores, self._scores(batch, part)[0], term.weight)
        return scores, positives

    def _of_backbone(self, number: int) -> tuple[torch.Tensor, tuple]:
        if number in self._backbone:
            return self._backbone[number]
        found = self._scores(self._batches[number], Part.BACKBONE)
        if self._keeps:
            self._backbone[number] = found
        return found

    def _scores(self, batch: tuple, part: Part) -> tuple[torch.Tensor, tuple]:
        """One part of a batch's scores ``[rows, n_items]``, minus infinity for what is not ranked; the positives."""
        with only(part, self._model):
            _, scores, *positives = self._score(batch)
        return scores, tuple(rows.to(scores.device) for rows in positives)


def _best(gains: torch.Tensor) -> int:
    """Which of the gains is the largest, over all processes; the first of equal ones."""
    return int(processes.total(gains).round(decimals=6).argmax())  # in whatever order they were added up


def _take(term: nn.Module, form: dict[str, float]) -> None:
    for name, value in form.items():
        getattr(term, name).fill_(value)


def heights(scores: torch.Tensor) -> torch.Tensor:
    """How far the best item of each row with a ranked one is above the mean of its ranked ones, ``[rows]``."""
    ranked = scores.isfinite()
    means = torch.where(ranked, scores, 0.0).double().sum(dim=1) / ranked.sum(dim=1).clamp(min=1)
    return (scores.amax(dim=1).double() - means)[ranked.any(dim=1)]


def _mean(of_batches: list[torch.Tensor]) -> float:
    """The mean of the rows' heights; 1 where all items are alike."""
    return float(torch.cat(of_batches).mean().nan_to_num()) or 1.0
