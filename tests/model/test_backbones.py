"""Every backbone: three stages, gradients, isolation of groups, scores of mixed groups, saving and loading."""

import pickle

import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import SASRec
from torch.nn import functional as F

from recbole_perpeft.config.registry import find_model, our_models
from recbole_perpeft.model.perpeft import PerPEFTMixin
from recbole_perpeft.quick_start import load, prepare, run
from recbole_perpeft.utils import processes
from recbole_perpeft.utils.launch import Place
from tests.matrix import quickly
from tests.tiny_runs import tiny_config
from tests.training import fit, gradients, scatter_groups

# one that trains on all prefixes at once, one that masks, one on single prefixes, and pairs, a graph
QUICK = ["PerPEFTSASRec", "PerPEFTBERT4Rec", "PerPEFTNARM", "PerPEFTLightGCN"]
BACKBONES = pytest.mark.parametrize("model", our_models())
# one of each kind: what it has of its own in model/, and what its RecBole class looks up in its item tables
KINDS = ["SASRec", "GRU4Rec", "NARM", "CORE", "HGN", "FPMC", "TransRec", "BERT4Rec", "RepeatNet", "FEARec", "SASRecF",
         "BPR", "NNCF", "LINE", "SimpleX", "FISM", "ENMF", "MacridVAE", "LightGCN", "SGL"]  # fmt: skip
QUICK_KINDS = quickly(list(our_models()), [f"PerPEFT{name}" for name in KINDS])
SIZES = {
    "embedding_size": 16, "group_negatives": False, "mlp_hidden_size": [16, 8], "mf_embedding_size": 8,
    "mlp_embedding_size": 8, "ui_embedding_size": 16, "neigh_embedding_size": 8, "encoder_hidden_size": [16],
    "selected_features": ["brand"], "train_batch_size": 32,
}  # fmt: skip
OF_MODEL = {
    "PerPEFTConvNCF": {"embedding_size": 64},  # four layers of strides 4, 4, 2, 2
    "PerPEFTFEARec": {"n_layers": 2},
    "PerPEFTDGCF": {"n_factors": 2},
}


def sizes(model):
    return {"model": model, **SIZES, **OF_MODEL.get(model, {})}


@pytest.fixture(scope="module", params=our_models())
def backbone(request, tiny_root, tmp_path_factory):
    """A model of each backbone, with its loaders, whose groups all differ; the tests leave its weights alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("backbone"))
        torch.set_num_threads(1)
        _, trainer, train_data, valid_data, _ = prepare(tiny_config(tiny_root, **sizes(request.param)))
    scatter_groups(trainer.model, train_data)
    return trainer.model, train_data, valid_data


@pytest.mark.parametrize("model", quickly(list(our_models()), QUICK))
def test_a_backbone_trains_through_three_stages_and_is_loaded_again(prepare, model):
    trainer, result = fit(prepare, grouping="coherence", **sizes(model))
    assert trainer.stage == "personalised"
    assert trainer.model.is_grouped
    _, again, _, _, test_data = load(trainer.saved_model_file)
    again.model.eval()
    trainer.model.eval()
    assert again.evaluate(test_data) == result
    interaction = next(iter(test_data))[0]
    with torch.no_grad():
        assert torch.equal(again.model.full_sort_predict(interaction), trainer.model.full_sort_predict(interaction))


def test_a_batch_of_which_bert4rec_masks_nothing_teaches_nothing(prepare):
    """As of a group's last users with short histories."""
    _, trainer, train_data, _, _ = prepare(**sizes("PerPEFTBERT4Rec"), weight_decay=0, l2_emb=0)
    before = {name: value.clone() for name, value in trainer.model.train().state_dict().items()}
    batch = next(iter(train_data))
    batch.interaction["MASK_INDEX"] = torch.zeros_like(batch["MASK_INDEX"])
    assert trainer.steps.train_window([batch]) == 0
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())


MEANS = [model for model in our_models() if find_model(model).loss_is_mean]
QUICK_MEANS = quickly(MEANS, [model for model in MEANS if model.removeprefix("PerPEFT") in KINDS])


@pytest.mark.parametrize("backbone", QUICK_MEANS, indirect=True)
def test_a_loss_that_is_a_mean_is_that_of_its_users(backbone):
    """As several processes take it, with some users each: their gradients add up to those of all."""
    net, train_data, _ = backbone
    net.eval()  # without dropout
    batch = next(iter(train_data))
    parts = []
    for rank in range(2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(processes.state, "place", Place(rank, 2, rank, 2, "localhost", 0))
            parts.append(next(iter(train_data)))
    weights = [part.part for part in parts]
    assert weights == [len(part) / len(batch) for part in parts]
    assert sorted(torch.cat([part.users for part in parts]).tolist()) == sorted(batch.users.tolist())
    assert all(torch.equal(part.items, batch.items) for part in parts)
    whole = net.calculate_loss(batch).sum()
    of_parts = sum(weight * net.calculate_loss(part).sum() for weight, part in zip(weights, parts, strict=True))
    assert of_parts.item() == pytest.approx(whole.item(), rel=1e-5)
    expected, found = gradients(net, whole), gradients(net, of_parts)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


def test_gradients_reach_the_groups_own_module_and_no_other(backbone):
    net, train_data, _ = backbone
    net.train()
    batch = next(iter(train_data))
    loss = net.calculate_loss(batch).sum()
    assert loss.isfinite()
    reached = gradients(net, loss)
    own = [name for name in reached if f"group_{batch.group}" in name]
    assert any("lora" in name for name in own)
    assert all(reached[name].abs().sum() > 0 for name in own if "lora_B" in name)
    others = {f"group_{group}" for group in range(3)} - {f"group_{batch.group}"}
    assert not any(other in name for name in reached for other in others)
    assert reached["item_tower.id_embedding.weight"].abs().sum() > 0


@pytest.mark.parametrize("backbone", QUICK_KINDS, indirect=True)
def test_scores_of_mixed_groups_are_those_of_each_user_alone(backbone):
    net, _, valid_data = backbone
    net.eval()
    interaction = next(iter(valid_data))[0]
    items = torch.arange(1, net.n_items)
    targets = torch.arange(len(interaction)) % 30 + 1
    pairs = Interaction({**interaction.interaction, "item_id": targets})
    with torch.no_grad():
        scores = net.full_sort_predict(interaction)
        picked = scores.gather(1, targets[:, None]).squeeze(1)
        torch.testing.assert_close(net.predict(pairs), picked, rtol=1e-4, atol=1e-5)
        assert len(net.user_groups[interaction["user_id"]].unique()) == 3
        for row in range(0, len(interaction), 7):
            alone = interaction[torch.tensor([row, row])]  # some backbones squeeze a batch of one
            rows = net.item_tower.embed(items, int(net.user_groups[alone["user_id"][0]]))
            masks = net.item_tower.id_embedding.weight[net.n_items :]
            with net.item_tower._using(F.pad(torch.cat([rows, masks]), (0, 0, 1, 0))):
                expected = _backbone_scores(net, alone)
            torch.testing.assert_close(scores[row], expected[0], rtol=1e-3, atol=1e-4)


def _backbone_scores(net, interaction):
    """Scores of RecBole's own class on the table in use."""
    (own,) = [cls for cls in type(net).__mro__ if cls.__name__ == net.backbone_name]
    net.restore_user_e = net.restore_item_e = None  # a graph's, of another table
    try:
        return own.full_sort_predict(net, interaction).view(len(interaction), -1)
    except NotImplementedError:
        rows = [own.predict(net, _with_item(interaction, item)) for item in range(net.n_items)]
        return torch.stack(rows, dim=1)


def _with_item(interaction, item):
    ids = torch.full((len(interaction),), item)
    return Interaction({**interaction.interaction, "item_id": ids})


@BACKBONES
def test_a_backbone_can_be_imported_pickled_and_subclassed(model):
    cls = our_models()[model]
    assert pickle.loads(pickle.dumps(cls)) is cls
    assert cls.__doc__
    assert type("Mine", (cls,), {}).backbone_name == model.removeprefix("PerPEFT")


def test_a_class_of_ones_own_runs_by_two_lines(tiny):
    class PerPEFTMine(PerPEFTMixin, SASRec):
        backbone_name = "SASRec"

    settings = tiny(epochs=2, global_epochs=1).settings()
    result = run(
        PerPEFTMine, "tiny", config_dict={key: v for key, v in settings.items() if key != "model"}, saved=False
    )
    assert 0 <= result["test_result"]["ndcg@10"] <= 1
