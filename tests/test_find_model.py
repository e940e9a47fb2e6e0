"""Models by name, and what a name says that is none."""

import pytest

from recbole_perpeft.config import Config
from recbole_perpeft.errors import SettingError
from recbole_perpeft.find_model import find_model


@pytest.mark.parametrize(("name", "near"), [("PerPEFTSASrec", "PerPEFTSASRec"), ("GRU4Rc", "GRU4Rec")])
def test_an_unknown_model_names_the_nearest(name, near):
    with pytest.raises(SettingError, match=f"Unknown model '{name}'. Did you mean '{near}'"):
        Config(name, "demo")


def test_a_backbone_without_item_table_is_refused_with_the_reason():
    with pytest.raises(SettingError, match="RecBole's EASE has none.*one of: SASRec, GRU4Rec.*LightGCN"):
        find_model("PerPEFTEASE")
