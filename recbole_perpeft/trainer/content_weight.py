"""How much the content term weighs in a model's scores: found in validation, among a few weights and decays."""

from itertools import product

import torch
from recbole.trainer import Trainer

from recbole_perpeft.evaluation.rank_gain import rank_gain, some_batches
from recbole_perpeft.evaluation.ranked_rows import model_scorer
from recbole_perpeft.model.content_term import ContentTerm, Part, only
from recbole_perpeft.utils import processes

_DECAYS = (0.65, 0.8, 1.0)
# How much the term varies over the items, as a share of how much the backbone's scores do.
_SHARES = (0.0, *(0.03 * 10 ** (step / 6) for step in range(13)))  # to 3, above which the backbone has no say
CANDIDATES = tuple(product(_SHARES, _DECAYS))


@torch.no_grad()
def find_content_weight(trainer: Trainer, valid_data) -> None:
    """Give the model's content term the weight and decay that rank the validation purchases best.

    Best is the mean of 1 / log2(1 + rank), NDCG without an end of the list, over some 1,500 of the users.

    Parameters
    ----------
    trainer
        Of a PerPEFT model with a content term, as it is to be validated.
    valid_data
        The validation's loader, of full or sampled rankings.
    """
    term: ContentTerm = trainer.model.item_tower.content_term
    trainer.model.encode_catalogues()
    gains, unit = torch.zeros(len(CANDIDATES), dtype=torch.float64), None
    with model_scorer(trainer, valid_data) as score:
        for number, batch in enumerate(some_batches(valid_data)):
            if number and not processes.is_own(number):  # the first one gives the unit
                continue
            backbone, positives = _scores(term, Part.BACKBONE, score, batch)
            content = {}
            for decay in _DECAYS:
                term.decay.fill_(decay)
                content[decay], _ = _scores(term, Part.CONTENT, score, batch)
            if unit is None:
                unit = _spread(backbone) / _spread(content[_DECAYS[0]])
            if not processes.is_own(number):
                continue
            mixed = torch.empty_like(backbone)
            for candidate, (share, decay) in enumerate(CANDIDATES):
                torch.add(backbone, content[decay], alpha=share * unit, out=mixed)
                gains[candidate] += rank_gain(mixed, *positives)
    share, decay = CANDIDATES[int(processes.total(gains).argmax())]
    term.weight.fill_(share * unit)
    term.decay.fill_(decay)
    trainer.model.take_from_first()


def _scores(term: ContentTerm, part: Part, score, batch: tuple) -> tuple[torch.Tensor, tuple]:
    """One part of the scores ``[rows, n_items]``, minus infinity for what is not ranked; and the positives."""
    with only(part, term):
        _, scores, *positives = score(batch)
    return scores, tuple(rows.to(scores.device) for rows in positives)


def _spread(scores: torch.Tensor) -> float:
    """Standard deviation over a row's ranked items, mean of the rows; 1 where all are alike."""
    ranked = scores.isfinite()
    values = torch.where(ranked, scores, 0.0).double()
    number = ranked.sum(dim=1).clamp(min=1)
    variance = (values**2).sum(dim=1) / number - (values.sum(dim=1) / number) ** 2
    return float(variance.clamp(min=0).sqrt().mean()) or 1.0
