"""General recommenders: batches of users' purchases, fresh rows beside old ones, propagated tables, new users."""

import weakref

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.model.general_recommender import LightGCN, NeuMF
from sklearn.neighbors import NearestNeighbors

from recbole_perpeft.config.registry import our_models
from recbole_perpeft.likeness.similarity import unit_vectors
from recbole_perpeft.model.similar_items import nearest_items
from recbole_perpeft.model.tower_factory import frozen_features, load_encoder
from recbole_perpeft.utils.errors import SettingError
from tests.matrix import quickly, slow
from tests.training import fit, move_modules, resume, same, scatter_groups

GENERAL = {"group_negatives": False, "embedding_size": 16}


def _purchases(dataset):
    """Training purchases from the file's own order: all but each user's last two."""
    frame = dataset.inter_feat
    users, items = frame["user_id"].numpy(), frame["item_id"].numpy()
    times = frame["timestamp"].numpy()
    return {user: items[users == user][np.argsort(times[users == user])][:-2].tolist() for user in np.unique(users)}


def test_a_batch_has_every_training_purchase_with_a_negative_of_its_user(prepare):
    dataset, _, train_data, _, _ = prepare(model="PerPEFTBPR", num_negatives=2, **GENERAL)
    bought = _purchases(dataset)
    assert {user: items.tolist() for user, items in train_data.histories.items()} == bought
    seen = {user: [] for user in bought}
    for batch in train_data:
        ids = torch.cat([torch.zeros(1, dtype=torch.long), batch.items])
        users, positives = batch["user_id"].tolist(), ids[batch["item_id"]].tolist()
        negatives = ids[batch["neg_item_id"]].tolist()
        for user, positive, negative in zip(users, positives, negatives, strict=True):
            seen[user].append(positive)
            assert negative > 0
            assert negative not in bought[user]
    assert {user: sorted(items) for user, items in seen.items()} == {
        user: sorted(items * 2) for user, items in bought.items()
    }


def test_a_pointwise_batch_labels_purchases_and_negatives(prepare):
    dataset, _, train_data, _, _ = prepare(model="PerPEFTNeuMF", num_negatives=3, mlp_hidden_size=[8], **GENERAL)
    bought = _purchases(dataset)
    for batch in train_data:
        ids = torch.cat([torch.zeros(1, dtype=torch.long), batch.items])
        own = [
            int(ids[item]) in bought[int(user)] for user, item in zip(batch["user_id"], batch["item_id"], strict=True)
        ]
        assert own == batch["label"].bool().tolist()
        assert batch["label"].mean() == pytest.approx(1 / 4)


def test_the_loss_of_a_batch_is_bprs_own_on_items_as_the_group_sees_them(prepare):
    _, trainer, train_data, _, _ = prepare(model="PerPEFTBPR", l2_emb=0, peft_config={"lora_dropout": 0.0}, **GENERAL)
    model = trainer.model.train()
    scatter_groups(model, train_data)
    batch = next(iter(train_data))
    rows = model.item_tower.embed(batch.items, batch.group)  # [m, d]
    users = model.user_embedding(batch["user_id"])
    gaps = (users * (rows[batch["item_id"] - 1] - rows[batch["neg_item_id"] - 1])).sum(dim=1)
    expected = -torch.log(1e-10 + torch.sigmoid(gaps)).mean()
    torch.testing.assert_close(model.calculate_loss(batch), expected)


def test_graph_models_see_fresh_rows_of_the_batch_and_all_other_items(prepare):
    _, trainer, train_data, _, _ = prepare(model="PerPEFTLightGCN", n_layers=2, **GENERAL)
    model = trainer.model.train()
    batch = next(iter(train_data))
    before = model.item_tower.encoder.items_encoded
    model.calculate_loss(batch).backward()
    encoded = model.item_tower.encoder.items_encoded - before
    assert encoded == len(batch.items) + model.n_items - 1  # the others once, at the first step
    before += encoded
    model.calculate_loss(batch)
    assert model.item_tower.encoder.items_encoded - before == len(batch.items)
    assert (model.item_tower.id_embedding.weight.grad[1:].abs().sum(dim=1) > 0).all()  # all are propagated


@pytest.mark.parametrize("negatives", [None, 3])
def test_the_softmax_of_light_gcn_is_over_all_items_that_the_user_did_not_buy(prepare, negatives):
    settings = {"num_negatives": negatives, "softmax_temperature": 0.5, "reg_weight": 0.1, "l2_emb": 0}
    dataset, trainer, train_data, _, _ = prepare(model="PerPEFTLightGCN", num_groups=1, **GENERAL | settings)
    model, bought = trainer.model.eval(), _purchases(dataset)
    batch = next(iter(train_data))
    with model.item_tower.whole(batch.items, 0):
        first = model.user_embedding.weight, model.item_tower.weight
        users, items = propagated(model)
    cosines = torch.nn.functional.cosine_similarity(users[:, None], items[None], dim=-1)
    candidates = range(1, model.n_items) if negatives is None else batch.items.tolist()
    losses, norms = [], torch.zeros(2)
    for user in batch.users.tolist():
        for item in bought[user]:
            among = [item] + [other for other in candidates if other not in bought[user]]
            losses.append(-torch.log_softmax(cosines[user, among] / 0.5, dim=0)[0])
            norms += torch.stack([first[0][user].square().sum(), first[1][item].square().sum()])
    expected = torch.stack(losses).mean() + 0.1 * norms.sqrt().sum() / len(losses)
    torch.testing.assert_close(model.calculate_loss(batch).squeeze(), expected)


def propagated(model):
    """Embeddings of users and items on both graphs, of one layer each, with the table in use."""
    rows = model.item_tower.weight
    first = torch.cat([model.user_embedding.weight, rows])
    users, items = torch.split((first + model.norm_adj_matrix.to_dense() @ first) / 2, [model.n_users, model.n_items])
    if model.similar_items is not None:
        alike = [torch.stack([rows[other] for other in others]).mean(dim=0) for others in model.similar_items.tolist()]
        items = items + torch.stack(alike)
    assert model.n_layers == 1
    return users, items


@pytest.mark.parametrize("number", [None, 4])
def test_light_gcn_scores_by_cosine_or_as_recboles(prepare, number):
    for loss, normalise in (("CE", torch.nn.functional.normalize), ("BPR", lambda rows: rows)):
        settings = {"loss_type": loss, "num_negatives": 2, "num_groups": 1, "similar_items": number}
        scale = 0.1 if loss == "CE" else 1
        _, trainer, train_data, valid_data, _ = prepare(model="PerPEFTLightGCN", **GENERAL | settings)
        model, rows = trainer.model.eval(), next(iter(valid_data))[0]
        with torch.no_grad(), model.item_tower.catalogue(0):
            users, items = map(normalise, propagated(model))
        torch.testing.assert_close(model.full_sort_predict(rows), users[rows["user_id"]] @ items.T / scale)
        batch = next(iter(train_data))
        assert ("neg_item_id" in batch.interaction) == (loss == "BPR")
    with model.item_tower.whole(batch.items, 0):
        expected = LightGCN.calculate_loss(model, batch)
    norm = model.item_tower.id_embedding.weight.norm()
    torch.testing.assert_close(model.calculate_loss(batch), expected + model.l2_emb * norm)


def test_similar_items_are_those_of_the_frozen_encoder_in_each_modality_whatever_is_trained(prepare):
    found = []
    for peft in ("IISAN", "LORA", "NONE"):
        settings = {"similar_items": 3, "peft_type": peft, "peft_config": None}
        dataset, trainer, *_ = prepare(model="PerPEFTLightGCN", **GENERAL | settings)
        found.append(trainer.model.similar_items)
        features = frozen_features(load_encoder(trainer.config, dataset))
    alike = [nearest_items(unit_vectors(features[modality], "whitened"), 3) for modality in ("image", "text")]
    for similar in found:
        assert torch.equal(similar, torch.cat(alike, dim=1))


def test_nearest_items_are_scikit_learns(monkeypatch):
    monkeypatch.setattr("recbole_perpeft.model.similar_items._ROWS", 7)
    rows = torch.randn(40, 5, generator=torch.Generator().manual_seed(1))
    found = nearest_items(torch.cat([torch.zeros(1, 5), torch.nn.functional.normalize(rows)]), 4)
    expected = NearestNeighbors(n_neighbors=4, metric="cosine").fit(rows).kneighbors(rows, return_distance=False)
    assert np.array_equal(found[1:], expected + 1)
    assert np.array_equal(found[1:, 0], np.arange(1, 41))  # each item is most like itself
    assert found[0].count_nonzero() == 0
    assert nearest_items(torch.eye(4), 10).shape == (4, 3)


@pytest.mark.parametrize("together", [1, 2])
def test_other_rows_are_encoded_once_before_the_first_validation(prepare, together):
    loader, encoded, n_items = encoded_in_an_epoch(prepare, batches_per_encoding=together)
    windows = list(loader.windows(together))
    fresh = sum(len(torch.cat([batch.items for batch in window]).unique()) for window in windows)
    assert len(windows) == 6 // together
    assert encoded == fresh + n_items


def encoded_in_an_epoch(prepare, **settings):
    """The loader, how many items the first epoch encodes, without a validation, and how many there are."""
    _, trainer, train_data, _, _ = prepare(model="PerPEFTLightGCN", users_per_batch=7, **GENERAL | settings)
    trainer.epochs = 1
    trainer._train_epoch(train_data, 0)
    return train_data, trainer.model.item_tower.encoder.items_encoded, trainer.model.n_items - 1


def test_propagated_tables_are_those_of_the_group_and_of_the_weights_as_they_are(prepare):
    _, trainer, train_data, valid_data, _ = prepare(model="PerPEFTLightGCN", **GENERAL)
    model = trainer.model.eval()
    scatter_groups(model, train_data)
    interaction = next(iter(valid_data))[0]

    def expected():
        rows = []
        for user in interaction["user_id"]:
            with torch.no_grad(), model.item_tower.catalogue(int(model.user_groups[user])):
                users, items = model.forward()
            rows.append(users[user] @ items.T)
        return torch.stack(rows)

    with torch.no_grad():
        first = model.full_sort_predict(interaction)
        torch.testing.assert_close(first, expected())
        torch.testing.assert_close(model.full_sort_predict(interaction), first)
        move_modules(model)
        model.user_embedding.weight.add_(0.5)
        model.invalidate()
        second = model.full_sort_predict(interaction)
        torch.testing.assert_close(second, expected())
    assert not torch.allclose(first, second)
    pairs = Interaction({**interaction.interaction, "item_id": torch.full((len(interaction),), 3)})
    with torch.no_grad():
        torch.testing.assert_close(model.predict(pairs), second[:, 3])


@torch.no_grad()
def test_what_was_propagated_goes_with_the_table_that_it_belongs_to(prepare):
    _, trainer, _, valid_data, _ = prepare(model="PerPEFTLightGCN", **GENERAL)
    model = trainer.model.eval()
    with model.item_tower.catalogue(0):
        table = weakref.ref(model.item_tower.weight)
    model.full_sort_predict(next(iter(valid_data))[0])
    assert table() is not None
    model.invalidate()
    assert table() is None


@pytest.mark.parametrize("model", ["PerPEFTBPR", slow("PerPEFTLightGCN"), slow("PerPEFTNeuMF"), slow("PerPEFTFISM")])
def test_users_move_to_the_group_that_predicts_them_best(prepare, model):
    trainer, _ = fit(prepare, model=model, regroup_epochs=1, mlp_hidden_size=[8], **GENERAL)
    assert trainer.stage == "personalised"


@pytest.mark.parametrize(
    ("model", "rows"),
    [
        ("PerPEFTBPR", lambda net, users: net.user_embedding(users)),
        (
            "PerPEFTNeuMF",
            lambda net, users: torch.cat([net.user_mf_embedding(users), net.user_mlp_embedding(users)], 1),
        ),
    ],
)
def test_users_are_represented_by_their_embeddings(prepare, model, rows):
    _, trainer, train_data, _, _ = prepare(model=model, mlp_hidden_size=[8], **GENERAL)
    users = torch.tensor(list(train_data.histories))
    found = torch.from_numpy(trainer.model.user_representations(train_data.histories))
    torch.testing.assert_close(found, rows(trainer.model, users).detach())


def test_users_without_an_embedding_are_represented_by_what_they_bought(prepare):
    _, trainer, train_data, _, _ = prepare(model="PerPEFTFISM", **GENERAL)
    net = trainer.model
    found = net.user_representations(train_data.histories)
    with torch.no_grad():
        expected = [net.item_tower.embed(torch.tensor(items), 0).mean(dim=0) for items in train_data.histories.values()]
    torch.testing.assert_close(torch.from_numpy(found), torch.stack(expected), rtol=1e-4, atol=1e-5)


RESUMED = [(model, epoch) for model in ("PerPEFTBPR", "PerPEFTLightGCN", "PerPEFTENMF", "PerPEFTBERT4Rec")
           for epoch in (1, 2)]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "epoch"),
    quickly(RESUMED, [("PerPEFTLightGCN", 1), ("PerPEFTBERT4Rec", 2)]),
)
def test_a_killed_run_resumes_to_the_result_of_an_uninterrupted_one(prepare, recorded, model, epoch):
    settings = {"model": model, **GENERAL}
    whole, expected, _ = run = recorded(**settings)
    trainer, result = resume(prepare, run.checkpoint(epoch), **settings)
    assert result == expected
    assert same(trainer.model.state_dict(), whole.model.state_dict())


def test_general_recommenders_keep_their_loss(tiny):
    with pytest.raises(SettingError, match="loss_type: BPR is not possible with PerPEFTBPR.*Set it to ~"):
        tiny(model="PerPEFTBPR", loss_type="BPR")


def test_views_of_single_users_are_refused_where_all_items_are_needed(tiny):
    with pytest.raises(SettingError, match="personalised_by: user_vector is not possible with PerPEFTLightGCN"):
        tiny(model="PerPEFTLightGCN", personalised_by="user_vector", state="ERROR", embedding_size=16)


def test_fifteen_general_recommenders_are_covered():
    general = [name for name, model in our_models().items() if model.type.name == "GENERAL"]
    assert len(general) == 15


def test_a_model_that_scores_pairs_scores_no_more_at_once_than_the_setting_says(prepare, monkeypatch):
    _, trainer, _, valid_data, _ = prepare(model="PerPEFTNeuMF", eval_batch_size=7)
    model, numbers, predict = trainer.model.eval(), [], NeuMF.predict

    def counted(self, interaction):
        numbers.append(len(interaction))
        return predict(self, interaction)

    monkeypatch.setattr(NeuMF, "predict", counted)
    rows = next(iter(valid_data))[0]
    with torch.no_grad():
        scores = model.full_sort_predict(rows)
        assert max(numbers) == 7
        rows.update(Interaction({"item_id": torch.arange(len(rows)) + 3}))
        pairs = model.predict(rows)
    torch.testing.assert_close(pairs, scores[torch.arange(len(rows)), rows["item_id"]])
