"""Stage 1 trained once for several runs: each ends as one that has trained it itself, to the last bit."""

import pytest
import torch

from recbole_perpeft.trainer import checkpoint_file, stage_1_cache
from recbole_perpeft.trainer.trainer import PerPEFTTrainer
from recbole_perpeft.utils.errors import CheckpointError
from tests.matrix import quickly
from tests.training import COHERENCE, FAST, KMEANS, fit, same

CHANGES = [
    {"num_groups": 2}, {"num_groups": 5}, KMEANS, COHERENCE, {"regroup_epochs": 1},
    {"group_negatives": False}, {"epochs": 5}, {"soft_groups": False},
]  # fmt: skip
WAYS = [
    FAST, {"averaging_epochs": 2}, {"peft_type": "IISAN", "peft_config": {}}, {"peft_type": "NONE", "peft_config": {}},
    {"personalised_by": "group_vector"}, {"personalised_by": "user_projector"}, {"eval_step": 0}, {"loss_type": "BPR"},
    {"model": "PerPEFTGRU4Rec"}, {"model": "PerPEFTLightGCN"},
]  # fmt: skip
CELLS = [
    *((change, {}) for change in CHANGES),
    *(({"num_groups": 2}, way) for way in WAYS),
    *(({"num_groups": 1}, way) for way in [{}, {"learner": "sgd"}, *WAYS] if "personalised_by" not in way),
]
QUICK = [
    (KMEANS, {}), ({"epochs": 5}, {}),
    ({"num_groups": 2}, {"averaging_epochs": 2}), ({"num_groups": 2}, {"model": "PerPEFTLightGCN"}),
]  # fmt: skip


def file_of(folder, trainer):
    return stage_1_cache.file_of(folder, trainer.config, trainer.checkpoint.identity)


def sharing(prepare, folder, monkeypatch, **settings):
    """Train with a stage 1 from ``folder``, or for it; gives the trainer, its test result and the epochs trained."""
    trained, train_epoch = [], PerPEFTTrainer._train_epoch

    def watched(trainer, data, epoch, *args, **kwargs):
        trained.append(epoch)
        return train_epoch(trainer, data, epoch, *args, **kwargs)

    def prepared(**settings):
        made = prepare(**settings)
        stage_1_cache.share(made[1], file_of(folder, made[1]))
        return made

    with monkeypatch.context() as patch:
        patch.setattr(PerPEFTTrainer, "_train_epoch", watched)
        trainer, result = fit(prepared, **settings)
    return trainer, result, trained


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Where the stages 1 of several tests are, and the folders that there are by the way they were trained."""
    return tmp_path_factory.mktemp("stages_1"), {}


@pytest.fixture
def stage_1_of(prepare, folders, monkeypatch):
    """``stage_1_of(**way)``: the folder with a stage 1, which a run trained once for all tests."""
    root, made = folders

    def make(**way):
        if repr(way) not in made:
            folder = root / str(len(made))
            assert sharing(prepare, folder, monkeypatch, **way)[2] == [0, 1, 2, 3]
            made[repr(way)] = folder
        return made[repr(way)]

    return make


def test_every_setting_of_groups_is_changed_here():
    assert set().union(*CHANGES) == stage_1_cache.GROUP_SETTINGS


@pytest.mark.parametrize(("change", "way"), quickly(CELLS, QUICK))
def test_a_run_with_the_stage_1_of_another_ends_as_one_with_its_own(
    prepare, recorded, stage_1_of, monkeypatch, change, way
):
    folder = stage_1_of(**way)
    own, own_result, _ = recorded(**way | change)
    taken, result, trained = sharing(prepare, folder, monkeypatch, **way | change)
    assert trained == list(range(2, change.get("epochs", 4)))
    assert result == own_result
    assert taken.best_valid_score == own.best_valid_score
    assert taken.best_epoch == own.best_epoch
    assert same(taken.model.state_dict(), own.model.state_dict())
    assert len(list(folder.iterdir())) == 1


def test_a_stage_1_that_stopped_early_is_not_gone_on_with(prepare, tmp_path, monkeypatch):
    def falling(trainer, valid_data, show_progress=False):
        return -trainer.epoch, {"ndcg@10": -trainer.epoch}

    monkeypatch.setattr(PerPEFTTrainer, "_valid_epoch", falling)
    settings = {"global_epochs": 6, "epochs": 8, "stopping_step": 1}
    assert sharing(prepare, tmp_path, monkeypatch, **settings)[2] == [0, 1, 2, 6, 7]
    trainer, _, trained = sharing(prepare, tmp_path, monkeypatch, **settings)
    assert trained == [6, 7]
    assert trainer.best_epoch == 0
    trainer, _, trained = sharing(prepare, tmp_path, monkeypatch, **settings, num_groups=1)
    assert trained == []  # global PEFT stops where stage 1 did
    assert trainer.best_epoch == 0


def test_one_group_does_not_go_on_from_an_epoch_that_it_would_not_have_validated(prepare, tmp_path, monkeypatch):
    settings = {"epochs": 6, "global_epochs": 2, "eval_step": 3}
    sharing(prepare, tmp_path / "stage_1", monkeypatch, **settings)
    assert len(list((tmp_path / "stage_1").iterdir())) == 1
    assert sharing(prepare, tmp_path / "stage_1", monkeypatch, **settings, num_groups=1)[2] == [0, 1, 2, 3, 4, 5]


def test_one_group_leaves_no_stage_1(prepare, tmp_path, monkeypatch):
    assert sharing(prepare, tmp_path / "stage_1", monkeypatch, num_groups=1)[2] == [0, 1, 2, 3]
    assert not (tmp_path / "stage_1").exists()


def test_what_stage_1_reads_makes_another_of_it(prepare, tmp_path):
    _, trainer, *_ = prepare()
    first = file_of(tmp_path, trainer)
    for change in CHANGES + [{"num_groups": 1}, {"checkpoint_dir": "elsewhere"}, {"show_progress": True}]:
        assert file_of(tmp_path, prepare(**change)[1]) == first, change
    for change in (
        {"seed": 1}, {"learning_rate": 0.1}, {"global_epochs": 1}, {"peft_config": {"r": 3}}, {"num_negatives": 5},
        {"users_per_batch": 7}, {"personalised_by": "group_vector"}, {"user_sample": 30}, {"model": "PerPEFTGRU4Rec"},
    ):  # fmt: skip
        assert file_of(tmp_path, prepare(**change)[1]) != first, change
    trainer.checkpoint.identity["dataset hash"] = "another"
    assert file_of(tmp_path, trainer) != first
    assert file_of(tmp_path, prepare(epochs=2)[1]) is None


def test_a_run_that_stands_somewhere_goes_on_there(prepare, recorded, stage_1_of):
    _, trainer, *_ = prepare()
    trainer.resume_checkpoint(recorded().checkpoint(2))
    stage_1_cache.share(trainer, file_of(stage_1_of(), trainer))
    assert trainer.start_epoch == 3


def test_a_stage_1_of_other_data_or_a_broken_file_is_refused(prepare, tmp_path, monkeypatch):
    trainer, _, _ = sharing(prepare, tmp_path, monkeypatch)
    file = file_of(tmp_path, trainer)
    with pytest.raises(CheckpointError, match="holds no settings: it was written for another use"):
        prepare()[1].resume_checkpoint(file)
    with pytest.raises(CheckpointError, match="holds no stage_1"):
        stage_1_cache.share(prepare()[1], trainer.saved_model_file)
    state = checkpoint_file.read(file, holds="stage_1")["stage_1"]
    checkpoint_file.write(file, {"stage_1": {**state, "identity": {**state["identity"], "dataset hash": "another"}}})
    with pytest.raises(CheckpointError, match="dataset hash: another in the checkpoint"):
        stage_1_cache.share(prepare()[1], file)
    file.write_bytes(b"half")
    with pytest.raises(CheckpointError, match="is no checkpoint of a PerPEFT model"):
        stage_1_cache.share(prepare()[1], file)


def test_a_state_for_other_groups_takes_what_fits():
    saved = {"shared": torch.ones(2), "group 0": torch.ones(1), "group 1": torch.ones(1), "by group": torch.ones(2, 0)}
    present = {"shared": torch.zeros(2), "group 0": torch.zeros(1), "by group": torch.zeros(3, 0)}
    taken = stage_1_cache.for_other_groups(saved, present)
    assert same(taken, {"shared": torch.ones(2), "group 0": torch.ones(1), "by group": torch.zeros(3, 0)})
