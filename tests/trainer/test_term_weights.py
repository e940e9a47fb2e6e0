"""The weights of both terms together, against trying them all."""

import pytest

from recbole_perpeft.trainer import term_weights
from recbole_perpeft.trainer.term_weights import FACTORS, find_term_weights
from tests.training import mean_gain


@pytest.mark.parametrize("model", ["PerPEFTSASRec", "PerPEFTBPR"])
def test_both_weights_together_are_the_best_of_their_multiples(prepare, monkeypatch, model):
    _, trainer, _, valid_data, _ = prepare(model=model)
    scale, before = term_weights._scale, []

    def watched(trainer, valid_data, terms, rows):
        before.append([float(term.weight) for term in terms])
        scale(trainer, valid_data, terms, rows)

    monkeypatch.setattr(term_weights, "_scale", watched)
    find_term_weights(trainer, valid_data)
    terms = list(trainer.model.score_terms.values())
    found, gain = [float(term.weight) for term in terms], mean_gain(trainer, valid_data)
    assert len(before) == 2  # after each round
    assert any(before[-1])
    gains = {}
    for factor in FACTORS:
        for term, weight in zip(terms, before[-1], strict=True):
            term.weight.fill_(factor * weight)
        gains[factor] = mean_gain(trainer, valid_data)
    assert len(set(gains.values())) > 1
    assert gain == pytest.approx(max(gains.values()), abs=1e-6)
    weights = [[factor * weight for weight in before[-1]] for factor in FACTORS]
    assert any(found == pytest.approx(tried) for tried in weights)


def test_one_term_alone_is_not_scaled(prepare, monkeypatch):
    _, trainer, _, valid_data, _ = prepare(purchase_term=False)
    monkeypatch.setattr(term_weights, "_scale", None)
    find_term_weights(trainer, valid_data)
    assert trainer.model.score_terms
