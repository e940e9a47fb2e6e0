"""Fixtures that several tests share: a tiny data set with pictures and titles, a tiny CLIP, quiet runs."""

import gc
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")

from functools import partial

import pytest

# torch and the package are imported in fixtures: the process that hands out tests to others does not wait for them


def pytest_collection_finish(session):
    """What was imported and collected lives as long as the tests: the garbage collector looks at it no more."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _no_cache_at_home(tmp_path_factory):
    """Runs that name no content cache have one of the tests, not the user's."""
    from recbole_perpeft.content.cache import PLACE_VARIABLE

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PLACE_VARIABLE, str(tmp_path_factory.mktemp("content")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _foundations_are_read_once():
    """A tiny foundation model is read from its files by the first test that loads it; the next get copies."""
    from tests.foundations import load_once_everywhere

    with pytest.MonkeyPatch.context() as patch:
        load_once_everywhere(patch)
        yield


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory):
    """A folder with the data set ``tiny`` (40 users, 30 items) whose folder holds the encoder ``clip``."""
    from tests.tiny_data import random_sequences, write_atomic
    from tests.tiny_models import save_tiny_clip

    root = tmp_path_factory.mktemp("data")
    place = write_atomic(root, "tiny", *random_sequences())
    save_tiny_clip(place / "clip")
    return root


@pytest.fixture
def tiny(tiny_root, tmp_path, monkeypatch):
    """``tiny(**settings)`` gives a Config of a PerPEFTSASRec run on ``tiny`` that writes below ``tmp_path``."""
    import torch

    from tests.tiny_runs import tiny_config

    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    return partial(tiny_config, tiny_root)


@pytest.fixture
def prepare(tiny):
    """``prepare(**settings)`` gives ``(dataset, trainer, train_data, valid_data, test_data)`` of a tiny run."""
    from recbole_perpeft import quick_start

    return lambda **settings: quick_start.prepare(tiny(**settings))


@pytest.fixture(scope="session")
def records(tmp_path_factory):
    """Where recorded runs are kept, and those that there are by their settings."""
    return tmp_path_factory.mktemp("records"), {}


@pytest.fixture
def recorded(prepare, records):
    """``recorded(**settings)`` gives a ``Recorded`` tiny run, trained once for all tests: they leave it as it is."""
    from tests.training import record

    folder, runs = records

    def make(**settings):
        key = repr(sorted(settings.items()))
        if key not in runs:
            runs[key] = record(prepare, folder / str(len(runs)), **settings)
        return runs[key]

    return make
