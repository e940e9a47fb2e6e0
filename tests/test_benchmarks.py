"""The benchmarks measure what they say: the naive reference computes what the package computes, and parts add up."""

import json
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import estimate, large_catalogue, sampled
from benchmarks.apart import moved
from benchmarks.backbones import line, summaries_in
from benchmarks.ceiling import true_aspects
from benchmarks.generator import likelihoods
from benchmarks.naive import NaivePerPEFT
from benchmarks.parts import BACKBONE, BACKWARD, FORWARD, PartMeter
from benchmarks.sides import PAPER
from benchmarks.synthetic import make_shop
from dataset.make.aspects import ASPECTS, INDEX, N_VALUES
from dataset.make.purchases import DRIFT_SHARE
from recbole_perpeft import quick_start
from recbole_perpeft.config import Config
from recbole_perpeft.utils.errors import DataError

EXACT = {
    "precision": "fp32",
    "hidden_dropout_prob": 0.0,
    "attn_dropout_prob": 0.0,
    "peft_config": {"lora_dropout": 0.0},
    "use_gpu": False,
    "show_progress": False,
}
GROUP = 1


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return make_shop(tmp_path_factory.mktemp("shop"), "demo", n_items=60, n_users=24, n_pictures=20, seed=3)


@pytest.fixture
def ours(shop, tmp_path, monkeypatch):
    """The paper's model with weights that differ between groups, and its loader of the training purchases."""
    monkeypatch.chdir(tmp_path)
    paths = {"data_path": str(shop.folder.parent), "encoder": str(shop.encoder), "content_cache": str(tmp_path)}
    config = Config("PerPEFTSASRec", "shop", [PAPER], {**EXACT, **paths, "num_groups": 2})
    _, trainer, train_data, _, _ = quick_start.prepare(config)
    model = trainer.model.train()
    with torch.no_grad():
        for parameter in model.trainable_parameters():  # LoRA starts as no change at all
            parameter += 0.05 * torch.randn_like(parameter)
    return model, train_data, config


def naive_like(model, train_data, config, shop):
    """The naive reference with the same weights."""
    dataset, titles = train_data._dataset, shop.titles()
    tokens = dataset.field2id_token[dataset.iid_field]
    naive = NaivePerPEFT(
        config, dataset, shop.encoder, [shop.picture(t) for t in tokens], [titles.get(t) for t in tokens]
    )
    theirs = dict(naive.clip.named_parameters())
    tower = model.item_tower
    with torch.no_grad():
        for group in range(2):
            for name, parameter in tower.encoder.adapter_parameters(group):
                theirs[re.sub(r"^.*?model\.", "base_model.model.", name)].copy_(parameter)
    naive.projectors.load_state_dict(tower.projectors.state_dict())
    state = {
        key: value for key, value in model.state_dict().items() if key.startswith(("position", "trm", "LayerNorm"))
    }
    naive.backbone.load_state_dict({**state, "item_embedding.weight": tower.id_embedding.weight})
    for module in naive.clip.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return naive.train()


def sequences_of(batch, train_data, length):
    """Inputs, positives and negatives ``[users, length]`` of a batch of prefixes that all begin with the first item."""
    dataset = train_data._dataset
    items = np.r_[0, batch.items.numpy()]
    users = batch[dataset.uid_field].numpy()
    lengths = batch[dataset.item_list_length_field].numpy()
    positions = np.unique(users, return_inverse=True)[1], lengths - 1
    arrays = np.zeros((3, len(np.unique(users)), length), dtype=np.int64)
    for array, field in zip(arrays[1:], (dataset.iid_field, "neg_" + dataset.iid_field), strict=True):
        array[positions] = items[batch[field].numpy()]
    arrays[0][positions] = items[batch[dataset.item_id_list_field].numpy()][np.arange(len(users)), lengths - 1]
    return arrays


def test_naive_reference_and_paper_variant_have_one_loss_and_one_gradient(ours, shop):
    model, train_data, config = ours
    length = config["MAX_ITEM_LIST_LENGTH"]
    train_data.set_groups(np.full(train_data._dataset.user_num, GROUP), group_negatives=True)
    # of longer histories the package's last prefixes are windows of their own, the naive pass is one window
    short = [at for at, user in enumerate(train_data.users) if len(train_data.histories[user]) <= length + 1]
    batch = train_data.collate_fn(short[:16])
    naive = naive_like(model, train_data, config, shop)

    loss = model.calculate_loss(batch)
    reference = naive.loss(*sequences_of(batch, train_data, length), GROUP)
    assert loss.item() == pytest.approx(reference.item(), rel=1e-5)

    loss.backward()
    reference.backward()
    theirs = dict(naive.clip.named_parameters())
    for name, parameter in model.item_tower.encoder.adapter_parameters(GROUP):
        gradient = theirs[re.sub(r"^.*?model\.", "base_model.model.", name)].grad
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-2, atol=1e-6)
    ids = model.item_tower.id_embedding.weight.grad
    torch.testing.assert_close(ids, naive.id_embedding.weight.grad, rtol=1e-3, atol=1e-6)


def test_naive_groups_start_from_group_zero(ours, shop):
    naive = naive_like(*ours, shop)
    naive.personalise()
    parameters = dict(naive.clip.named_parameters())
    for name, parameter in parameters.items():
        assert torch.equal(parameter, parameters[name.replace("group_1", "group_0")])


def test_groups_of_a_shop_have_equal_sizes_and_like_interests(shop):
    tokens = np.array(["[PAD]", *(f"u{number:05d}" for number in range(1, 25))])
    groups = shop.groups(tokens, 4)
    assert np.bincount(groups[1:]).tolist() == [6, 6, 6, 6]
    interests = np.load(shop.folder / "interests.npy")
    assert (np.diff(interests[np.argsort(groups[1:], kind="stable")].reshape(4, 6).mean(1)) >= 0).all()


def test_parts_exclude_each_other_and_the_encoder_has_its_share_of_the_backward_pass():
    seconds = 0

    def work(n):
        nonlocal seconds
        seconds += n

    class Slow(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            work(2)
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            work(5)
            return gradient * 2

    class Model:
        def encode(self, x):
            return Slow.apply(x)

    model, x = Model(), torch.ones(3, requires_grad=True)
    meter = PartMeter(lambda: seconds)
    with meter.wrap([(model, "encode", FORWARD)]):
        work(3)
        model.encode(x).sum().backward()
    assert meter.amounts == {BACKBONE: 3, FORWARD: 2, BACKWARD: 5}
    assert "encode" not in vars(model)


def test_a_backbones_line_holds_perpeft_against_global_peft_and_the_built_in_model():
    means = {"perpeft": 0.06, "global_peft": 0.05, "frozen": 0.045, "BPR": 0.04}
    rows = [
        {"row": f"{name}, LORA" if "peft" in name else name, "variant": name, "seeds": [1, 2],
         "test": {"ndcg@20": {"mean": mean, "std": 0.001}}}
        for name, mean in means.items()
    ]  # fmt: skip
    pairs = [
        {"row": "perpeft, LORA", "to": "global_peft, LORA", "mean": 0.01, "p_users": 0.0001, "p_seeds": 0.02},
        {"row": "perpeft, LORA", "to": "BPR", "mean": 0.02, "p_users": None, "p_seeds": None},
        {"row": "BPR", "to": "perpeft, LORA", "mean": -0.02, "p_users": None, "p_seeds": None},
    ]
    found = line("BPR", {"metric": "ndcg@20", "rows": rows, "pairs": pairs})
    assert found[:3] == ["BPR", "2", "0.0400 ± 0.0010"]
    assert found[5:] == ["**0.0600 ± 0.0010**", "+20.0 % (<0.001, 0.020)", "+50.0 %"]
    assert line("BPR", {"metric": "ndcg@20", "rows": rows[1:], "pairs": []})[5:] == ["", "", ""]  # PerPEFT failed


def test_backbones_of_earlier_commands_join_the_table_if_their_test_purchases_are_the_same(tmp_path):
    for backbone in ("BPR", "GRU4Rec"):
        runs = tmp_path / backbone / "runs"
        runs.mkdir(parents=True)
        result = {"name": backbone, "settings": {"seed": 1}, "data": {"users": 20}}
        (runs / "frozen.json").write_text(json.dumps(result), encoding="utf-8")
        (tmp_path / backbone / "table.json").write_text(json.dumps({"metric": backbone}), encoding="utf-8")
    assert summaries_in(tmp_path) == {"BPR": {"metric": "BPR"}, "GRU4Rec": {"metric": "GRU4Rec"}}
    (runs / "frozen.json").write_text(json.dumps({**result, "data": {"users": 30}}), encoding="utf-8")
    with pytest.raises(DataError, match="'BPR' and 'GRU4Rec' cannot be compared: users differ"):
        summaries_in(tmp_path)


def test_groups_are_moved_towards_their_mean_for_a_while(ours):
    model, _, _ = ours
    tower = model.eval().item_tower

    def tables():
        found = []
        for group in range(2):
            with tower.catalogue(group):
                found.append(tower.weight.clone())
        return found

    def parameters():
        return [[parameter.detach().clone() for parameter in tower.group_parameters(group)] for group in range(2)]

    trained, seen = parameters(), tables()
    assert not torch.allclose(seen[0], seen[1])
    with moved(tower, 2, 0):
        first, second = tables()
        torch.testing.assert_close(first, second)
    with moved(tower, 2, 0.5):
        torch.testing.assert_close(parameters()[1], [0.25 * a + 0.75 * b for a, b in zip(*trained, strict=True)])
    with moved(tower, 2, 1):
        torch.testing.assert_close(tables(), seen, atol=1e-5, rtol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(tables(), seen, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(sum(parameters(), []), sum(trained, []), strict=True))


def test_true_aspects_are_those_that_the_demos_catalogue_shows():
    lines = Path("dataset/demo/demo.item").read_text(encoding="utf-8").splitlines()[1:]
    items, titles, categories = zip(*(line.split("\t") for line in lines), strict=True)
    table = true_aspects(["[PAD]", *items[::-1]], width=192).flip(0)  # items in the file's order, then padding
    assert not table[-1].any()
    assert torch.allclose(table[:-1].square().sum(1), torch.tensor(2.0))
    starts = np.cumsum([0, *N_VALUES])
    for name, shown in (("product", categories), ("material", titles)):
        start, words = starts[INDEX[name]], list(ASPECTS[INDEX[name]].values)
        values = table[:-1, start : start + len(words)].argmax(1)
        assert all(words[value] in text.lower() for value, text in zip(values, shown, strict=True))


def test_sampled_evaluation_is_timed_against_predict_which_finds_the_same(tmp_path, capsys):
    file = tmp_path / "sampled.json"
    sizes = ["--users", "60", "--items", "200", "--hidden", "16", "--length", "5", "--predict_users", "20"]
    sampled.main([*sizes, "--repeats", "1", "--threads", "1", "--json", str(file)])
    result = json.loads(file.read_text())
    assert result["largest_difference_of_metrics"] < 1e-6
    assert result["seconds_per_user"]["predict"] > result["seconds_per_user"]["uni100"] > 0
    assert "times the time of full" in capsys.readouterr().out


@pytest.mark.slow
def test_a_large_catalogues_memory_is_measured_part_by_part(tmp_path, capsys):
    file, chart = tmp_path / "memory.json", tmp_path / "chart.png"
    sizes = ["400x80x2", "600x80x1"]
    for some in (sizes[:1], sizes):  # the second time the first size is known
        large_catalogue.main(["--sizes", *some, "--json", str(file), "--plot", str(chart)])
    words = ["--untested", "--json", str(file), "--", "--eval_step=0"]
    large_catalogue.main(["--sizes", "500x80x2", *words])
    *runs, unvalidated = json.loads(file.read_text())["runs"]
    assert unvalidated["words"] == words[-1:]
    assert list(unvalidated["parts"])[2:] == ["epochs, without validation", "lists"]
    assert [(run["items"], run["users"], run["groups"]) for run in runs] == [(400, 80, 2), (600, 80, 1)]
    for run in runs:
        peaks = [part["peak_bytes"] for part in run["parts"].values()]
        assert list(run["parts"])[0] == "imports"
        assert list(run["parts"])[-2:] == ["test", "lists"]
        assert peaks == sorted(peaks)
        assert run["peak_bytes"] == peaks[-1]
    assert "| 400 | 80 | 2 |" in capsys.readouterr().out
    assert chart.stat().st_size > 1000


@pytest.mark.slow
def test_the_estimate_is_measured_against_a_run_of_the_demo(tmp_path, capsys):
    file = tmp_path / "estimate.json"
    estimate.main(["--peft", "NONE", "--json", str(file)])
    lines = json.loads(file.read_text())["lines"]
    assert [line[1] for line in lines] == [
        "steps of an epoch, stage 1",
        "steps of an epoch, stage 3",
        "validation, stage 1",
        "validation, stage 3",
        "peak",
    ]
    assert all(0.2 < float(line[-1]) < 5 for line in lines)  # a machine that does other work is far off
    assert "| demo, NONE | peak |" in capsys.readouterr().out


def test_a_change_of_taste_counts_as_all_its_ways_added_up():
    choices = np.array([(first, second) for first in range(4) for second in range(4) if first != second])  # [12, 2]
    known = np.random.default_rng(0).uniform(0.1, 1, size=(12, 3, 2))  # probabilities of two purchases, by tastes
    found = np.exp(likelihoods(np.log(known), choices, n_purchases=3))
    for end, (first, second) in enumerate(choices):
        for other in range(3):
            ways = (1 - DRIFT_SHARE) * known[end, other].prod()
            starts = [s for s, (one, two) in enumerate(choices) if two == second and one != first]
            assert len(starts) == 2
            for change, start in product((1, 2), starts):  # purchases before the change, of three in all
                path = [start if purchase < change else end for purchase in range(2)]
                of_path = known[path[0], other, 0] * known[path[1], other, 1]
                ways += DRIFT_SHARE / 2 / len(starts) * of_path
            assert found[end, other] == pytest.approx(ways)
