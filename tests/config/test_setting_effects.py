"""Settings that cannot act: refused by hand, absent as defaults, named in the log; and that this is the truth."""

import random

import numpy as np
import pytest
import torch

from recbole_perpeft.config import Config
from recbole_perpeft.config.registry import our_models
from recbole_perpeft.config.setting_effects import unread
from recbole_perpeft.encoder.factory import ENCODERS
from recbole_perpeft.encoder.item_encoder import FrozenItemEncoder
from recbole_perpeft.quick_start import prepare as prepare_run
from recbole_perpeft.trainer.stage_report import grouping_report
from recbole_perpeft.utils.errors import SettingError
from tests.model.test_backbones import sizes
from tests.training import scatter_groups

OWN_LOSS = ["PerPEFTBERT4Rec", "PerPEFTENMF", "PerPEFTMacridVAE", "PerPEFTRepeatNet"]
QUICKLY = [*OWN_LOSS, "PerPEFTSASRec", "PerPEFTFPMC", "PerPEFTBPR", "PerPEFTLightGCN"]  # the others are slow
OF_BATCHES = {  # settings that a loader reads, and a value that is not the default
    "correct_sampling": True, "num_negatives": 8, "group_negatives": False, "prefixes_per_user": 2,
}  # fmt: skip


def demo(model, *words, **values):
    return Config(model, "demo", config_dict=values, command_line=words)


def _loss(model, config, dataset, loader):
    """Of the first batch in stage 3, with dropout, masks and negatives drawn anew."""
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(1)  # by which LINE draws items, not users
    model.update = 0  # of MacridVAE, which counts its steps
    loader = type(loader)(config, dataset)
    loader.set_groups(model.user_groups.numpy(), config["group_negatives"])
    return float(model.calculate_loss(next(iter(loader))).detach().sum())


@pytest.mark.parametrize(
    "name",
    [name if name in QUICKLY else pytest.param(name, marks=pytest.mark.slow) for name in our_models()],
)
def test_a_setting_changes_a_backbones_loss_if_it_is_not_said_to_be_unread(tiny, name):
    kinds = our_models()[name]
    config = tiny(**sizes(name) | ({} if "num_negatives" in unread(kinds) else {"group_negatives": True}))
    _, trainer, train_data, _, _ = prepare_run(config)
    model, dataset = trainer.model.train(), train_data._dataset
    scatter_groups(model, train_data)
    before = _loss(model, config, dataset, train_data)
    after = {key: _loss(model, _with(config, key, value), dataset, train_data) for key, value in OF_BATCHES.items()}
    acting = {key for key, loss in after.items() if loss != before}
    assert acting == OF_BATCHES.keys() - unread(kinds).keys()


def _with(config, key, value):
    changed = Config.__new__(Config)
    changed.__dict__.update(config.__dict__, final_config_dict={**config.final_config_dict, key: value})
    return changed


@pytest.mark.parametrize("name", [*OWN_LOSS, "PerPEFTFPMC", "PerPEFTBPR", "PerPEFTSASRec"])
def test_what_a_backbone_does_not_read_is_refused_by_hand_and_absent_as_a_default(name):
    kinds = our_models()[name]
    config = demo(name)
    assert not unread(kinds).keys() & config.settings().keys()
    assert config.remarks == []
    assert Config(config_dict=config.settings()).final_config_dict == config.final_config_dict
    for key in unread(kinds):
        value = OF_BATCHES.get(key) or {"loss_type": "CE"}.get(key, 3)
        with pytest.raises(SettingError, match=f"{key}: {value} is not possible with {name}"):
            demo(name, f"--{key}={value}")
        assert demo(name, f"--{key}=~").settings() == config.settings()


def test_backbones_whose_loss_is_their_own_take_no_negatives():
    assert [name for name in sorted(our_models()) if "num_negatives" in unread(our_models()[name])] == OWN_LOSS
    off = demo("PerPEFTBERT4Rec", "--group_negatives=False")
    assert off.remarks == [
        "group_negatives: False has no effect on PerPEFTBERT4Rec: its loss is its own and takes no negatives."
    ]


@pytest.mark.parametrize("name", OWN_LOSS)
def test_nothing_is_encoded_or_logged_for_negatives_that_nobody_reads(prepare, name):
    _, trainer, train_data, _, _ = prepare(**sizes(name))
    batch = next(iter(train_data))
    bought = np.concatenate([train_data.histories[user] for user in batch.users.tolist()])
    assert set(batch.items.tolist()) <= set(bought.tolist())
    report = grouping_report("random", [20, 20], train_data.group_pools)
    assert "20 users" in report
    assert "negatives" not in report


@pytest.mark.parametrize(
    ("model", "loss", "message"),
    [
        ("PerPEFTCORE", "BPR", "loss_type: BPR is not possible with PerPEFTCORE, whose loss is CE"),
        ("PerPEFTFPMC", "CE", "loss_type: CE is not possible with PerPEFTFPMC, whose loss is BPR or BCE"),
        ("PerPEFTTransRec", "BCE", "loss_type: BCE is not possible with PerPEFTTransRec, whose loss is BPR"),
        ("PerPEFTBERT4Rec", "BCE", "loss_type: BCE is not possible with PerPEFTBERT4Rec, whose loss is CE or BPR"),
        ("SASRec", "BCE", "Unknown loss_type 'BCE'. Did you mean 'CE'"),
    ],
)
def test_a_loss_that_a_backbone_does_not_have_is_refused(model, loss, message):
    with pytest.raises(SettingError, match=message):
        demo(model, f"--loss_type={loss}")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("--num_groups=1 --regroup_epochs=2 --grouping=kmeans", ["regroup_epochs: 2 has no effect with num_groups: 1.",
         "grouping: kmeans has no effect with num_groups: 1."]),
        ("--num_groups=1 --group_negatives=False", ["group_negatives: False has no effect with num_groups: 1."]),
        ("--num_groups=1 --personalised_by=group_vector", []),
        ("--global_epochs=40 --soft_groups=True",
         ["soft_groups: True has no effect with global_epochs: 40 and epochs: 40."]),
        ("--epochs=6 --global_epochs=4 --regroup_epochs=2",
         ["regroup_epochs: 2 has no effect with epochs: 6 and global_epochs: 4."]),
        ("--regroup_epochs=2 --soft_groups=True --group_negatives=False", []),
        ("--prefixes_per_user=3", []),
        ("--peft_type=LORA --iisan_form=normalised", ["iisan_form: normalised has no effect with peft_type: LORA."]),
        ("--peft_type=IISAN --peft_layers=2", ["peft_layers: 2 has no effect with peft_type: IISAN."]),
        ("--peft_type=NONE --peft_config={'r':2}", ["peft_config: {'r': 2} has no effect with peft_type: NONE."]),
        ("--modalities=[text] --image_dir=pics", ["image_dir: pics has no effect with modalities: ['text']."]),
        ("--modalities=[image] --max_text_length=5", ["max_text_length: 5 has no effect with modalities: ['image']."]),
        ("--image_field=p --image_dir=pics", ["image_dir: pics has no effect with image_field: p."]),
        ("--correct_sampling=True --num_negatives=~", ["correct_sampling: True has no effect with num_negatives: ~."]),
        ("--correct_sampling=True --loss_type=BPR", ["correct_sampling: True has no effect with loss_type: BPR."]),
        ("--eval_step=0 --content_term=True", ["content_term: True has no effect with eval_step: 0."]),
        ("--num_groups=1 --soft_groups=True", ["soft_groups: True has no effect with num_groups: 1."]),
        ("--eval_step=0 --stopping_step=3", ["stopping_step: 3 has no effect with eval_step: 0."]),
        ("--mlp_hidden_size=[8]", ["mlp_hidden_size: [8] has no effect on PerPEFTSASRec, which does not read it."]),
        ("--hidden_size=32 --initializer_range=0.1 --resume=x", []),
        ("--content_weight=0 --peft_type=LORA --compile_encoder=True",
         ["peft_type: LORA has no effect with content_weight: 0.",
          "compile_encoder: True has no effect with content_weight: 0."]),
        ("--content_weight=0 --peft_type=NONE --personalised_by=group_projector --soft_groups=True",
         ["personalised_by: group_projector has no effect with content_weight: 0.",
          "soft_groups: True has no effect with content_weight: 0."]),
        ("--content_weight=0 --personalised_by=group_vector --soft_groups=True", []),
        ("--content_weight=0 --image_dir=pics", []),  # which the content term reads
        ("--content_weight=0 --content_term=False --grouping=kmeans --image_dir=pics",
         ["image_dir: pics has no effect with content_weight: 0."]),
    ],
)  # fmt: skip
def test_a_setting_that_others_leave_without_effect_is_named(words, named):
    assert demo("PerPEFTSASRec", *words.split()).remarks == named


@pytest.mark.parametrize(("reads", "named"), [((), ["peft_layers"]), (("peft_layers",), [])])
def test_an_encoder_of_ones_own_says_which_settings_it_reads(monkeypatch, reads, named):
    own = type("Own", (FrozenItemEncoder,), {"reads": reads})
    monkeypatch.setitem(ENCODERS, "OWN", own)
    remarks = demo("PerPEFTSASRec", "--peft_type=own", "--peft_layers=2").remarks
    assert remarks == [f"{key}: 2 has no effect with peft_type: own." for key in named]


@pytest.mark.parametrize(
    ("model", "word", "named"),
    [
        ("Pop", "--epochs=40", ["epochs: 40 has no effect on Pop, which counts and is not trained."]),
        ("SASRec", "--num_groups=4", ["num_groups: 4 has no effect on SASRec, which does not read it."]),
        ("BPR", "--hidden_size=32", ["hidden_size: 32 has no effect on BPR, which does not read it."]),
        (
            "BPR",
            "--MAX_ITEM_LIST_LENGTH=9",
            ["MAX_ITEM_LIST_LENGTH: 9 has no effect on BPR, which reads no sequences."],
        ),
        ("LightGCN", "--reg_weight=0.1", []),
        ("SASRec", "--learning_rate=0.1", []),
        ("SINE", "--loss_type=BPR", []),
        (
            "ContentNeighbours",
            "--eval_step=0 --valid_metric=NDCG@30",
            ["eval_step: 0 has no effect on ContentNeighbours, which counts and is not trained."],
        ),
    ],
)
def test_a_setting_that_recboles_model_does_not_read_is_named(model, word, named):
    assert demo(model, *word.split()).remarks == named


def test_sequences_that_begin_further_apart_than_they_are_long_are_refused():
    message = "sequence_stride: 9 is not possible with MAX_ITEM_LIST_LENGTH: 8: .*Set it to at most 8"
    for model in ("PerPEFTSASRec", "PerPEFTGRU4Rec"):
        with pytest.raises(SettingError, match=message):
            demo(model, "--sequence_stride=9", "--MAX_ITEM_LIST_LENGTH=8")
    assert demo("PerPEFTSASRec", "--sequence_stride=8", "--MAX_ITEM_LIST_LENGTH=8").remarks == []


def test_a_modality_may_be_written_alone_and_is_one_that_there_is():
    assert demo("PerPEFTSASRec", "--modalities=text")["modalities"] == ["text"]
    for model in ("PerPEFTSASRec", "ContentNeighbours"):
        with pytest.raises(SettingError, match="Unknown modalities 'video'. Known: image, text"):
            demo(model, "--modalities=[video]")


def test_variants_and_dictionaries_that_hold_all_settings_name_nothing():
    config = demo("PerPEFTSASRec", num_groups=1, peft_type="NONE")
    assert config.remarks == []
    assert all("global_epochs" in one for one in Config(config_dict=config.settings()).remarks)


def test_a_setting_of_another_model_of_the_same_file_is_named(tiny):
    remark = "similar_items: 5 has no effect on PerPEFTBPR, which does not read it."
    assert remark in tiny(model="PerPEFTBPR", similar_items=5).remarks
    assert not any("similar_items" in remark for remark in tiny(model="PerPEFTLightGCN", similar_items=5).remarks)
