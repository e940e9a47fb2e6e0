"""A user's score for an item is one number, in full ranking and in sampled evaluation, alone and in a batch."""

import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.model import general_recommender, sequential_recommender
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.model.general_recommender import ConvNCF

from recbole_perpeft.config.registry import recbole_models
from tests.matrix import quickly
from tests.model.test_backbones import OF_MODEL, SIZES

SETTINGS = {
    "DIN": {"mlp_hidden_size": [16, 8]},
    "SASRecCPR": {"reranker_CAN_NUM": 10},
    "GRU4RecCPR": {"reranker_CAN_NUM": 10},
    "S3Rec": {"item_attribute": "brand", "load_col": {"inter": ["user_id", "item_id", "timestamp"],
                                                      "item": ["item_id", "brand"]}},
}  # fmt: skip
NOT_HERE = {
    "KSR": "reads files of a knowledge graph's entities",
    "GRU4RecKG": "reads files of a knowledge graph's entities",
}


def names():
    """RecBole's sequential and general recommenders."""
    there = {**vars(sequential_recommender), **vars(general_recommender)}
    return sorted(name for name in recbole_models() if name in there and name not in NOT_HERE)


def perturbed(model):
    """``model`` in evaluation, every weight moved so that no two scores are alike."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def with_items(interaction, items):
    return Interaction({**interaction.interaction, "item_id": items})


# whose scores this package repairs, and one of each kind of RecBole's
QUICK = [
    "SHAN", "CORE", "FISM", "ADMMSLIM", "Pop", "Random", "SASRec", "SASRecF", "BERT4Rec", "FPMC", "TransRec", "SINE",
    "BPR", "NeuMF", "ConvNCF", "LightGCN", "SGL", "MultiVAE", "EASE", "ItemKNN", "ENMF", "DMF", "NAIS",
]  # fmt: skip


@pytest.mark.parametrize("name", quickly(names(), QUICK))
def test_both_scores_of_recboles_models_agree(prepare, name):
    settings = {**SIZES, **OF_MODEL.get(f"PerPEFT{name}", {}), **SETTINGS.get(name, {})}
    _, trainer, _, _, test_data = prepare(model=name, **settings)
    model, interaction = perturbed(trainer.model), next(iter(test_data))[0]
    items = torch.arange(len(interaction)) % 30 + 1
    with torch.no_grad():
        pairs = model.predict(with_items(interaction, items)).view(-1)
        if type(model).full_sort_predict is AbstractRecommender.full_sort_predict:
            return  # RecBole ranks by predict, item by item
        everything = model.full_sort_predict(interaction).view(len(interaction), -1)  # [n, n_items]
        again = model.full_sort_predict(interaction).view(len(interaction), -1)
        two = model.full_sort_predict(interaction[:2]).view(2, -1)
    assert len(everything[:, 1:].unique()) > 5
    assert pairs.dtype is torch.float32  # which RecBole's trainers collect, in sampled evaluation
    rounding = {"rtol": 1e-4, "atol": 1e-5 * float(everything.std()), "check_dtype": False}
    torch.testing.assert_close(pairs, everything.gather(1, items[:, None]).squeeze(1), **rounding)
    assert torch.equal(everything, again)
    torch.testing.assert_close(two, everything[:2], **rounding)


def test_shan_is_ranked_by_the_order_it_trains_on(prepare):
    _, trainer, train_data, _, test_data = prepare(model="SHAN", train_neg_sample_args=None)
    model, interaction = perturbed(trainer.model), next(iter(test_data))[0]
    targets = interaction["item_id"]
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(model.full_sort_predict(interaction), targets)
        users = model.user_embedding(interaction["user_id"])
        loss = model.calculate_loss(interaction) - model.reg_loss(users, model.item_embedding(targets))
    torch.testing.assert_close(loss, expected)
    names = ("user_id", "item_id_list", "item_length")  # as of users whose sequences come from no loader
    with torch.no_grad():
        again = model.full_sort_predict(Interaction({name: interaction[name] for name in names}))
        assert torch.equal(again, model.full_sort_predict(interaction))


def test_random_has_a_list_of_its_own_for_every_user(prepare):
    _, trainer, _, _, test_data = prepare(model="Random")
    _, other, _, _, _ = prepare(model="Random", seed=2021)
    interaction = next(iter(test_data))[0]
    scores = trainer.model.full_sort_predict(interaction)
    assert len(scores.argmax(dim=1).unique()) > 10
    assert abs(float(scores.mean()) - 0.5) < 0.05
    assert not torch.equal(scores, other.model.full_sort_predict(interaction))


@pytest.mark.parametrize("name", ["LightGCN", "DMF"])
def test_tables_kept_from_an_evaluation_go_with_the_weights_they_are_made_of(prepare, name):
    _, trainer, _, _, test_data = prepare(model=name)
    model, interaction = perturbed(trainer.model), next(iter(test_data))[0]
    best = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        expected = model.full_sort_predict(interaction)
    for key in ("restore_user_e", "restore_item_e", "i_embedding"):
        setattr(model, key, None)  # as a training step does
    with torch.no_grad():
        assert not torch.allclose(perturbed(model).full_sort_predict(interaction), expected)
        model.load_state_dict(best)
        torch.testing.assert_close(model.full_sort_predict(interaction), expected)


def test_convncf_scores_many_pairs_with_the_maps_of_few_in_memory(prepare, monkeypatch):
    _, trainer, _, _, _ = prepare(model="ConvNCF", embedding_size=64)
    model, numbers, forward = perturbed(trainer.model), [], ConvNCF.forward
    users, items = torch.randint(1, model.n_users, (700,)), torch.randint(1, model.n_items, (700,))
    with torch.no_grad():
        expected = model(users, items)
        monkeypatch.setattr(
            ConvNCF, "forward", lambda *arguments: numbers.append(len(arguments[1])) or forward(*arguments)
        )
        scores = model.predict(Interaction({"user_id": users, "item_id": items}))
    assert max(numbers) <= 256
    assert sum(numbers) == 700
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-6)
