"""Fixtures that several tests share: a tiny data set with pictures and titles, a tiny CLIP, quiet runs."""

import gc
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")

from functools import partial

import pytest
import torch

from recbole_perpeft import quick_start
from recbole_perpeft.config import Config
from recbole_perpeft.config.registry import find_model, is_perpeft
from recbole_perpeft.config.setting_effects import unread
from recbole_perpeft.content.cache import PLACE_VARIABLE
from tests.tiny_data import random_sequences, write_atomic
from tests.tiny_models import save_tiny_clip
from tests.training import record

TINY = {
    "hidden_size": 16, "inner_size": 16, "n_layers": 1, "MAX_ITEM_LIST_LENGTH": 8, "projector_size": 8, "num_groups": 3,
    "users_per_batch": 8, "num_negatives": 4, "epochs": 4, "global_epochs": 2, "topk": [5, 10],
    "valid_metric": "NDCG@10",
    # forty random users have no interests to find: k-means may leave one alone, so tests of it say so
    "grouping": "random", "show_progress": False, "content_workers": 1, "peft_config": {"r": 2}, "learning_rate": 0.01,
    "precision": "fp32", "use_gpu": False, "correct_sampling": False, "averaging_epochs": None,
}  # fmt: skip


def pytest_collection_finish(session):
    """What was imported and collected lives as long as the tests: the garbage collector looks at it no more."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _no_cache_at_home(tmp_path_factory):
    """Runs that name no content cache have one of the tests, not the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PLACE_VARIABLE, str(tmp_path_factory.mktemp("content")))
        yield


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory):
    """A folder with the data set ``tiny`` (40 users, 30 items) whose folder holds the encoder ``clip``."""
    root = tmp_path_factory.mktemp("data")
    place = write_atomic(root, "tiny", *random_sequences())
    save_tiny_clip(place / "clip")
    return root


def tiny_config(root, model="PerPEFTSASRec", dataset="tiny", **settings):
    """Config of a tiny run on a data set of ``root``, which writes below the working directory."""
    paths = {"data_path": str(root), "content_cache": str(root / "cache"), "encoder": "clip"}
    model_class = find_model(model) if isinstance(model, str) else model
    unused = unread(model_class) if is_perpeft(model_class) else ()
    small = {key: value for key, value in TINY.items() if key not in unused}
    return Config(model, dataset, config_dict={**small, **paths, **settings})


@pytest.fixture
def tiny(tiny_root, tmp_path, monkeypatch):
    """``tiny(**settings)`` gives a Config of a PerPEFTSASRec run on ``tiny`` that writes below ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    return partial(tiny_config, tiny_root)


@pytest.fixture
def prepare(tiny):
    """``prepare(**settings)`` gives ``(dataset, trainer, train_data, valid_data, test_data)`` of a tiny run."""
    return lambda **settings: quick_start.prepare(tiny(**settings))


@pytest.fixture(scope="session")
def records(tmp_path_factory):
    """Where recorded runs are kept, and those that there are by their settings."""
    return tmp_path_factory.mktemp("records"), {}


@pytest.fixture
def recorded(prepare, records):
    """``recorded(**settings)`` gives a ``Recorded`` tiny run, trained once for all tests: they leave it as it is."""
    folder, runs = records

    def make(**settings):
        key = repr(sorted(settings.items()))
        if key not in runs:
            runs[key] = record(prepare, folder / str(len(runs)), **settings)
        return runs[key]

    return make
