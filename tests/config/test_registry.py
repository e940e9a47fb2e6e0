"""Models by name, and what a name says that is none."""

import importlib.util
import sys

import pytest

from recbole_perpeft.config import Config
from recbole_perpeft.config.registry import find_model
from recbole_perpeft.quick_start import run
from recbole_perpeft.utils.errors import SettingError


@pytest.mark.parametrize(("name", "near"), [("PerPEFTSASrec", "PerPEFTSASRec"), ("GRU4Rc", "GRU4Rec")])
def test_an_unknown_model_names_the_nearest(name, near):
    with pytest.raises(SettingError, match=f"Unknown model '{name}'. Did you mean '{near}'"):
        Config(name, "demo")


def test_a_backbone_without_item_table_is_refused_with_the_reason():
    with pytest.raises(SettingError, match="RecBole's EASE has none.*one of: SASRec, GRU4Rec.*LightGCN"):
        find_model("PerPEFTEASE")


@pytest.mark.skipif(importlib.util.find_spec("lightgbm") is not None, reason="it is installed")
def test_a_model_whose_package_is_not_installed_names_it():
    with pytest.raises(SettingError, match="model: lightgbm needs the package lightgbm, which is not installed"):
        find_model("lightgbm")


def test_a_model_that_imports_a_package_in_its_training_names_it(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)  # as if it were not installed, which it is for other tests
    with pytest.raises(SettingError, match="model: NCL needs the package faiss, which is not installed"):
        run("NCL", config_dict=tiny("NCL", epochs=1).external_config_dict)
