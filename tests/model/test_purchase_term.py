"""The purchase term of scores, against loops, and its weight against trying all."""

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_perpeft.evaluation.ranked_rows import model_scorer
from recbole_perpeft.model import purchase_term
from recbole_perpeft.model.purchase_term import PurchaseTerm
from recbole_perpeft.model.score_parts import Part, only
from recbole_perpeft.quick_start import load, run
from recbole_perpeft.trainer import term_weights
from recbole_perpeft.trainer.term_weights import find_term_weights
from tests.training import mean_gain, scatter_groups

ITEMS = 30


def sequences(users=50):
    rng = np.random.default_rng(0)
    return [rng.integers(1, ITEMS, size=length) for length in rng.integers(1, 40, size=users)]


def counted(bought, n_items=ITEMS):
    """How often two items were bought near each other, ``[n_items, n_items]``, pair by pair."""
    counts = np.zeros((n_items, n_items))
    for items in bought:
        for one in range(len(items)):
            for other in range(one + 1, min(len(items), one + 21)):
                if items[one] != items[other]:
                    counts[items[one], items[other]] += 0.8 ** (other - one - 1)
                    counts[items[other], items[one]] += 0.8 ** (other - one - 1)
    return counts


def near(bought, histories, decay, damping, n_items=ITEMS, kept=None):
    """The term of all items without its weight, ``[n, n_items]``."""
    counts = counted(bought, n_items)
    if kept is not None:
        for row in counts:
            row[sorted(range(n_items), key=lambda item: (-np.float32(row[item]), item))[kept:]] = 0
    popularity = np.bincount(np.concatenate(bought), minlength=n_items).clip(min=1)
    found = np.zeros((len(histories), n_items))
    for row, history in zip(found, histories.tolist(), strict=True):
        own = [item for item in history if item]
        for place, item in enumerate(own):
            row += decay ** (len(own) - 1 - place) * counts[item] / popularity**damping
    return found


@pytest.mark.parametrize("kept", [None, 5])
def test_items_are_scored_by_what_was_bought_near_the_history(monkeypatch, kept):
    if kept:
        monkeypatch.setattr(purchase_term, "NEIGHBOURS", kept)
    monkeypatch.setattr(purchase_term, "_AT_A_TIME", 700)  # some rows at a time
    monkeypatch.setattr(purchase_term, "_PURCHASES", 100)  # some three items at a time
    term = PurchaseTerm(sequences(), ITEMS)
    term.decay.fill_(0.7)
    term.damping.fill_(0.5)
    histories = torch.tensor([[1, 2, 3, 0], [5, 6, 7, 8], [4, 0, 0, 0], [0, 0, 0, 0]])
    expected = near(sequences(), histories, 0.7, 0.5, kept=kept)
    np.testing.assert_allclose(term.of_all(histories).numpy(), expected, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(purchase_term, "_DENSE", 0)  # as in a large catalogue
    np.testing.assert_allclose(term.of_all(histories).numpy(), expected, rtol=1e-4, atol=1e-5)
    items = torch.tensor([3, 7, 9, 2])
    np.testing.assert_allclose(term.of_pairs(histories, items).numpy(), expected[range(4), items], rtol=1e-4, atol=1e-5)
    term.weight.fill_(2)
    scores = torch.randn(4, ITEMS)
    for both in (term.add_to(scores.clone(), histories), term.additions(histories).add_to(scores.clone())):
        np.testing.assert_allclose(both.numpy(), scores.numpy() + 2 * expected, rtol=1e-4, atol=1e-5)


def test_users_of_one_purchase_say_nothing():
    term = PurchaseTerm([np.array([3]), np.array([4])], ITEMS)
    assert not term.of_all(torch.tensor([[3, 4]])).any()


def test_new_items_have_no_part_in_it():
    old = PurchaseTerm(sequences(), ITEMS)
    new = old.with_items(ITEMS + 3)
    found = new.of_all(torch.tensor([[1, ITEMS + 1, 2]]))
    assert torch.equal(found[:, :ITEMS], old.of_all(torch.tensor([[1, 0, 2]])))
    assert not found[:, ITEMS:].any()


@pytest.mark.parametrize("model", ["PerPEFTSASRec", "PerPEFTBPR", "PerPEFTLightGCN"])
def test_scores_are_the_others_and_the_weighted_term(prepare, model):
    _, trainer, train_data, valid_data, _ = prepare(model=model)
    net = trainer.model.eval()
    scatter_groups(net, train_data)
    rows = next(iter(valid_data))[0]
    items = torch.arange(len(rows)) % (net.n_items - 1) + 1
    rows.update(Interaction({"item_id": items}))
    with torch.no_grad():
        alone = net.full_sort_predict(rows).clone()
        net.purchase_term.weight.fill_(3)
        net.purchase_term.decay.fill_(0.8)
        both = net.full_sort_predict(rows).clone()
        pairs = net.predict(rows)
        with only(Part.PURCHASES, net):
            term = net.full_sort_predict(rows)
    bought = list(train_data.histories.values())
    expected = near(bought, net._histories(rows), 0.8, 0, net.n_items)
    assert expected.any()
    np.testing.assert_allclose(term.numpy(), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(both.numpy(), alone.numpy() + 3 * expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(pairs, both.gather(1, items[:, None]).squeeze(1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", ["full", "uni7"])
def test_no_other_weight_and_form_of_those_tried_is_better(prepare, monkeypatch, mode):
    for together in ("FACTORS", "NEAR"):
        monkeypatch.setattr(term_weights, together, (1.0,))
    evaluation = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": mode}
    _, trainer, _, valid_data, _ = prepare(eval_args=evaluation)
    term = trainer.model.purchase_term
    find_term_weights(trainer, valid_data)
    best, weight, form = mean_gain(trainer, valid_data), float(term.weight), (float(term.decay), float(term.damping))
    term.weight.zero_()
    others = height(trainer, valid_data, Part.ALL)
    shares = (0, *(0.03 * 10 ** (step / 3) for step in range(7)))
    tried = {}
    for decay in (0.8, 1.0):
        for damping in (0, 0.5):
            term.decay.fill_(decay)
            term.damping.fill_(damping)
            unit = others / height(trainer, valid_data, Part.PURCHASES)
            for share in shares:
                term.weight.fill_(share * unit)
                tried[decay, damping, share * unit] = mean_gain(trainer, valid_data)
    assert max(tried.values()) <= best + 1e-6
    assert any(gain == pytest.approx(best) for gain in tried.values())
    assert weight == 0 or any(
        np.allclose([*form, weight], key) for key, gain in tried.items() if gain == pytest.approx(best)
    )


def height(trainer, loader, part):
    """How far a part's best item is above the mean of the ranked ones, mean of the first batch."""
    with torch.no_grad(), only(part, trainer.model), model_scorer(trainer, loader) as score:
        _, scores, *_ = score(next(iter(loader)))
    return np.mean([row.max() - row[np.isfinite(row)].mean() for row in scores.numpy()])


def test_training_does_not_depend_on_it(prepare):
    losses = []
    for used in (True, False):
        _, trainer, train_data, valid_data, _ = prepare(purchase_term=used, num_groups=1, epochs=3)
        trainer.fit(train_data, valid_data, verbose=False, saved=False)
        losses.append(trainer.train_loss_dict)
    assert losses[0] == losses[1]


def test_a_checkpoint_holds_its_weight_and_the_data_its_counts(tiny):
    result = run(config_dict=tiny().settings())
    _, trainer, _, _, test_data = load(result["checkpoint"])
    state = {key for key in trainer.model.state_dict() if key.startswith("purchase_term.")}
    assert state == {"purchase_term.weight", "purchase_term.decay", "purchase_term.damping"}
    assert trainer.evaluate(test_data, load_best_model=False) == pytest.approx(result["test_result"])
    trainer.model.purchase_term.weight.add_(100)
    assert trainer.evaluate(test_data, load_best_model=False) != pytest.approx(result["test_result"])


@pytest.mark.parametrize("model", ["ContentNeighbours", "ContentNeighboursGeneral"])
def test_content_neighbours_have_it_where_it_is_asked_for(prepare, model):
    _, trainer, *_ = prepare(model=model)
    assert trainer.model.purchase_term is None
    _, trainer, train_data, valid_data, _ = prepare(model=model, purchase_term=True)
    trainer.fit(train_data, valid_data, verbose=False, saved=False)
    assert "purchases weighing" in trainer.chosen
    net, rows = trainer.model.eval(), next(iter(valid_data))[0]
    net.purchase_term.weight.fill_(2)
    net.purchase_term.decay.fill_(0.8)
    net.purchase_term.damping.fill_(0)
    both = net.full_sort_predict(rows).clone()
    net.purchase_term.weight.zero_()
    expected = 2 * near(list(train_data.dataset.training_sequences().values()), net._histories(rows), 0.8, 0, 31)
    np.testing.assert_allclose((both - net.full_sort_predict(rows)).numpy(), expected, rtol=1e-3, atol=1e-4)


def test_a_choice_among_neighbours_does_not_depend_on_an_earlier_weight(prepare):
    found = []
    for earlier in (0, 100):
        _, trainer, train_data, valid_data, _ = prepare(model="ContentNeighbours", purchase_term=True)
        trainer.model.purchase_term.weight.fill_(earlier)
        found.append((*trainer.fit(train_data, valid_data, verbose=False, saved=False), trainer.chosen))
    assert found[0] == found[1]
