"""PerPEFTSASRec against direct calculations: small tables, prefixes, isolation of groups, mixed groups."""

import pickle

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from torch.nn import functional as F

from recbole_perpeft.model import read_purchases
from recbole_perpeft.utils.errors import TrainingError
from tests.matrix import quickly
from tests.training import NO_DROPOUT, PEFTS, gradients, scatter_groups


def first_batch(train_data):
    return next(iter(train_data))


def whole_table_loss(model, batch, loss_type):
    """The batch's loss with every item of the catalogue encoded and plain catalogue ids."""
    tower = model.item_tower
    every = torch.arange(1, tower.num_embeddings)
    table = F.pad(tower.embed(every, batch.group), (0, 0, 1, 0))
    to_catalogue = torch.cat([torch.zeros(1, dtype=torch.long), batch.items])
    sequence, target = to_catalogue[batch["item_id_list"]], to_catalogue[batch["item_id"]]
    with tower._using(table):
        output = model.forward(sequence, batch["item_length"])  # [n, d]
    if loss_type == "CE":
        logits = output @ table.T
        allowed = torch.zeros(len(output), len(table), dtype=torch.bool)
        allowed[:, to_catalogue] = ~batch.excluded
        loss = F.cross_entropy(logits.masked_fill(~allowed, -torch.inf), target)
    else:
        positive = (output * table[target]).sum(1)
        negative = (output * table[to_catalogue[batch["neg_item_id"]]]).sum(1)
        if loss_type == "BPR":
            loss = -torch.log(1e-10 + torch.sigmoid(positive - negative)).mean()
        else:
            loss = -torch.log(torch.sigmoid(positive)).mean() - torch.log(1 - torch.sigmoid(negative)).mean()
    return loss + model.l2_emb * tower.id_embedding.weight.pow(2).sum().sqrt()


@pytest.mark.parametrize("peft", PEFTS)
@pytest.mark.parametrize("loss_type", ["BCE", "BPR", "CE"])
def test_a_small_table_gives_the_loss_and_gradients_of_the_whole_catalogue(prepare, peft, loss_type):
    _, trainer, train_data, _, _ = prepare(
        peft_type=peft, peft_config=PEFTS[peft], loss_type=loss_type, l2_emb=0.01, **NO_DROPOUT
    )
    model = trainer.model
    scatter_groups(model, train_data)
    model.train()
    batch = first_batch(train_data)
    small, whole = model.calculate_loss(batch), whole_table_loss(model, batch, loss_type)
    torch.testing.assert_close(small, whole, rtol=1e-4, atol=0)
    of_small, of_whole = gradients(model, model.calculate_loss(batch)), gradients(model, whole)
    moved = {name for name, gradient in of_whole.items() if gradient.abs().max() > 0}
    assert any(f"group_{batch.group}" in name for name in moved)
    assert moved <= set(of_small)
    for name, gradient in of_small.items():
        torch.testing.assert_close(gradient, of_whole[name], rtol=1e-3, atol=1e-6, msg=name)


def test_all_prefixes_give_the_outputs_of_one_causal_pass(prepare):
    _, trainer, train_data, _, _ = prepare(**NO_DROPOUT)
    model = trainer.model.eval()
    for user, items in train_data.histories.items():
        rows = train_data._prefixes[np.flatnonzero(train_data._prefixes["user_id"].numpy() == user)]
        with torch.no_grad(), model.item_tower.catalogue(0):
            outputs = model.forward(rows["item_id_list"], rows["item_length"])  # [prefixes, d]
            sequence = torch.zeros(1, model.max_seq_length, dtype=torch.long)
            sequence[0, : len(items) - 1] = torch.from_numpy(items[:-1].copy())
            positions = torch.arange(model.max_seq_length)
            inputs = model.LayerNorm(model.item_embedding(sequence) + model.position_embedding(positions))
            causal = model.trm_encoder(inputs, model.get_attention_mask(sequence))[-1][0]  # [length, d]
        torch.testing.assert_close(outputs, causal[rows["item_length"] - 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("act", ["gelu", "swish"])
def test_activations_are_those_of_recbole(prepare, act):
    model = prepare(hidden_act=act)[1].model
    layer, values = model.trm_encoder.layer[0].feed_forward, torch.linspace(-6, 6, 301)
    assert (layer.intermediate_act_fn is F.gelu) == (act == "gelu")
    torch.testing.assert_close(
        layer.intermediate_act_fn(values), layer.get_hidden_act(act)(values), rtol=1e-5, atol=1e-6
    )


def test_sequences_cut_to_the_longest_of_a_batch_give_the_same_loss(prepare):
    _, trainer, train_data, _, _ = prepare(**NO_DROPOUT, MAX_ITEM_LIST_LENGTH=20)
    short = next(iter(train_data))
    sequences = short["item_id_list"]
    assert sequences.shape[1] == int(short["item_length"].max()) < 20
    long = short.to("cpu")
    long.interaction["item_id_list"] = torch.nn.functional.pad(sequences, (0, 20 - sequences.shape[1]))
    model = trainer.model.eval()
    torch.testing.assert_close(model.calculate_loss(short), model.calculate_loss(long))


@pytest.mark.parametrize("peft", PEFTS)
def test_a_step_moves_the_groups_own_module_and_no_other(prepare, peft):
    _, trainer, train_data, _, _ = prepare(
        peft_type=peft, peft_config=PEFTS[peft], num_groups=4, weight_decay=0.1, users_per_batch=4
    )
    model, optimizer = trainer.model.train(), trainer.optimizer
    scatter_groups(model, train_data, num_groups=4)
    batches = sorted(train_data, key=lambda batch: batch.group == 3)  # the others first, so that they have momentum
    before = None
    for batch in batches + [b for b in batches if b.group == 3]:
        if batch.group == 3 and before is None:
            before = {name: value.clone() for name, value in model.named_parameters()}
            before |= {name: value.clone() for name, value in model.named_buffers()}
        optimizer.zero_grad()
        model.calculate_loss(batch).backward()
        optimizer.step()
    now = dict(model.named_parameters()) | dict(model.named_buffers())
    changed = {name for name, value in before.items() if not torch.equal(value, now[name])}
    encoder, projectors = "item_tower.encoder.", "item_tower.projectors."
    own = {name for name in now if "group_3" in name or name.startswith(f"{projectors}3.")}
    shared = {name for name in now if not name.startswith((encoder, projectors))}
    assert changed <= own | shared
    adapters = {name for name in changed if name.startswith(encoder)}
    assert adapters
    assert {name for name, _ in model.named_parameters() if name in own} <= changed
    assert {"item_tower.id_embedding.weight", "position_embedding.weight"} <= changed


def test_scores_of_mixed_groups_are_those_of_each_user_alone(prepare):
    _, trainer, train_data, valid_data, _ = prepare()
    model = trainer.model
    scatter_groups(model, train_data)
    model.eval()
    with torch.no_grad():
        for interaction, *_ in valid_data:
            scores = model.full_sort_predict(interaction)
            assert len(model.user_groups[interaction["user_id"]].unique()) == 3
            items = torch.arange(1, model.n_items)
            for row in range(len(interaction)):
                alone = interaction[np.array([row])]
                group = int(model.user_groups[alone["user_id"]])
                table = F.pad(model.item_tower.embed(items, group), (0, 0, 1, 0))
                with model.item_tower._using(table):
                    output = model.forward(alone["item_id_list"], alone["item_length"])
                torch.testing.assert_close(scores[row], (output @ table.T)[0], rtol=1e-4, atol=1e-5)
                item = alone["item_id"]
                pair = Interaction({**alone.interaction, "item_id": item})
                torch.testing.assert_close(model.predict(pair)[0], scores[row, item[0]], rtol=1e-4, atol=1e-5)


def test_groups_differ_in_what_they_see(prepare):
    _, trainer, train_data, _, _ = prepare()
    model = trainer.model
    items = torch.arange(1, 10)
    with torch.no_grad():
        same = [model.item_tower.eval().embed(items, group) for group in range(3)]
        scatter_groups(model, train_data)
        different = [model.item_tower.eval().embed(items, group) for group in range(3)]
    assert torch.equal(same[0], same[2])
    assert (different[0] - different[2]).abs().max() > 0.01


def test_a_catalogue_is_encoded_once_per_evaluation(prepare):
    _, trainer, train_data, valid_data, _ = prepare(eval_batch_size=4)
    model = trainer.model
    scatter_groups(model, train_data)
    encoder = model.item_tower.encoder
    before = encoder.items_encoded
    trainer.evaluate(valid_data, load_best_model=False)
    trainer.evaluate(valid_data, load_best_model=False)
    assert encoder.items_encoded - before == 3 * (model.n_items - 1)
    model.train()  # drops nothing
    trainer.evaluate(valid_data, load_best_model=False)
    assert encoder.items_encoded - before == 3 * (model.n_items - 1)
    model.invalidate()
    trainer.evaluate(valid_data, load_best_model=False)
    assert encoder.items_encoded - before == 6 * (model.n_items - 1)


def test_a_training_step_cannot_ask_for_the_whole_catalogue(prepare):
    _, trainer, train_data, _, _ = prepare()
    with pytest.raises(TrainingError, match="would run the foundation model on every item"):
        _ = trainer.model.item_tower.weight
    with pytest.raises(TrainingError):
        trainer.model.item_embedding(torch.tensor([1]))


def test_representations_come_from_the_training_part(prepare):
    _, trainer, train_data, valid_data, _ = prepare()
    representations = trainer.model.user_representations(train_data.histories)
    for interaction, *_ in valid_data:  # the input of a validation row is the user's training part
        with torch.no_grad(), trainer.model.item_tower.catalogue(0):
            expected = trainer.model.forward(interaction["item_id_list"], interaction["item_length"])
        users = list(train_data.histories)
        rows = [users.index(user) for user in interaction["user_id"].tolist()]
        np.testing.assert_allclose(representations[rows], expected.numpy(), rtol=1e-4, atol=1e-5)


def test_state_leaves_the_foundation_out_and_comes_back(prepare):
    _, trainer, train_data, _, _ = prepare()
    model = trainer.model
    scatter_groups(model, train_data)
    state = model.state_dict()
    trained = sum(p.numel() for p in model.trainable_parameters())
    groups = model.user_groups.numel() + model.regroupings.numel()
    soft = model.group_losses.numel() + 2  # and softness and temperature
    terms = 3 + 3  # weight and decay of the content term, by_modules; those of the purchase term, and its damping
    assert sum(value.numel() for value in state.values()) == trained + groups + soft + terms
    _, other, other_data, _, _ = prepare(seed=7)
    other.model.load_state_dict(state)
    assert torch.equal(other.model.user_groups, model.user_groups)
    items = torch.arange(1, 20)
    with torch.no_grad():
        for group in range(3):
            mine = model.item_tower.eval().embed(items, group)
            assert torch.equal(mine, other.model.item_tower.eval().embed(items, group))


@pytest.mark.parametrize("settings", [{}, {"peft_layers": 1}, {"peft_type": "NONE", "peft_config": {}}])
def test_the_model_can_be_pickled(prepare, settings):
    _, trainer, train_data, _, _ = prepare(**settings)
    model, items = trainer.model.eval(), torch.arange(1, 20)
    scatter_groups(model, train_data)
    expected = model.item_tower.embed(items, 1)
    again = pickle.loads(pickle.dumps(model))
    assert again.state_dict().keys() == model.state_dict().keys()
    torch.testing.assert_close(again.item_tower.embed(items, 1), expected)
    assert not torch.allclose(again.item_tower.embed(items, 2), expected)


@pytest.mark.parametrize("scores", [2**24, 31 * 3])  # in memory at a time: of 50 prefixes, of 3
def test_losses_by_group_are_those_of_a_softmax_over_all_items(prepare, monkeypatch, scores):
    monkeypatch.setattr(read_purchases, "_SCORES", scores)
    _, trainer, train_data, _, _ = prepare()
    model, prefixes = trainer.model, train_data._prefixes
    scatter_groups(model, train_data)
    losses = model.losses_by_group(prefixes, batch_size=50)
    items = torch.arange(1, model.n_items)
    for group in range(3):
        table = model.item_tower.embed(items, group)
        with model.item_tower._using(F.pad(table, (0, 0, 1, 0))):
            outputs = model.forward(prefixes["item_id_list"], prefixes["item_length"])
        chances = torch.softmax(outputs @ table.T, dim=1)[torch.arange(len(prefixes)), prefixes["item_id"] - 1]
        torch.testing.assert_close(losses[:, group], -chances.log(), rtol=1e-3, atol=1e-4)
    assert (losses.argmin(dim=1).bincount(minlength=3) > 0).all()


@pytest.mark.parametrize("model", ["PerPEFTSASRec", "PerPEFTGRU4Rec"])
def test_losses_in_a_large_catalogue_are_those_among_items_that_are_drawn(prepare, monkeypatch, model):
    _, trainer, train_data, _, _ = prepare(model=model)
    model, prefixes = trainer.model, train_data._prefixes
    scatter_groups(model, train_data)
    exact = model.losses_by_group(prefixes)
    monkeypatch.setattr(read_purchases, "MOST_COMPARED", 10)
    torch.testing.assert_close(model.losses_by_group(prefixes), exact)  # all are drawn

    monkeypatch.setattr(read_purchases, "DRAWN", 12)
    losses, drawn = model.losses_by_group(prefixes), model._drawn_items(False)
    assert len(drawn.unique()) == 12
    assert drawn.min() > 0
    for group in range(3):
        with model.item_tower.catalogue(group):
            scores = model._score_all(prefixes).exp()
        targets = prefixes["item_id"]
        own = scores[torch.arange(len(targets)), targets]
        others = scores[:, drawn].masked_fill(drawn == targets[:, None], 0).sum(dim=1) * (model.n_items - 1) / 12
        torch.testing.assert_close(losses[:, group], -(own / (own + others)).log(), rtol=1e-4, atol=1e-5)


WAYS = [{}, {"loss_type": "BPR"}, {"prefixes_per_user": 3}]
CELLS = [(model, longest, way) for model in ("PerPEFTSASRec", "PerPEFTGRU4Rec") for longest in (3, 20) for way in WAYS]


@pytest.mark.parametrize(
    ("model", "longest", "settings"), quickly(CELLS, [CELLS[0], CELLS[4], CELLS[5], CELLS[8], CELLS[9]])
)
def test_one_pass_gives_the_loss_of_all_prefixes_one_by_one(prepare, model, longest, settings):
    _, trainer, train_data, _, _ = prepare(
        model=model, embedding_size=16, **NO_DROPOUT, MAX_ITEM_LIST_LENGTH=longest, **settings
    )
    model = trainer.model.eval()
    for batch in train_data:
        rows, passes = len(batch), len(batch.passes)
        in_one = model.calculate_loss(batch)
        batch.passes = batch.pass_of = torch.arange(rows)
        torch.testing.assert_close(in_one, model.calculate_loss(batch))
        read = {(owner, *sequence) for owner, sequence in zip(batch.owner.tolist(), _items(batch), strict=True)}
        beginnings = {row[:end] for row in read for end in range(2, len(row))}
        assert passes == len(read - beginnings) * (4 if "loss_type" in settings else 1)  # num_negatives


def _items(batch):
    """Items of each row's sequence, without padding."""
    return [row[row > 0].tolist() for row in batch["item_id_list"]]


@pytest.mark.parametrize(
    ("model", "length"), [("PerPEFTSASRec", 31), ("PerPEFTLightSANs", 31), ("PerPEFTBERT4Rec", 32)]
)
def test_as_many_positions_as_items_are_no_items(prepare, model, length):
    _, trainer, _, _, _ = prepare(model=model, MAX_ITEM_LIST_LENGTH=length)
    net = trainer.model
    assert net.position_embedding.num_embeddings in (net.n_items, net.n_items + 1)
    assert isinstance(net.position_embedding, torch.nn.Embedding)
    assert net.item_tower.embedding_dim == net.hidden_size
