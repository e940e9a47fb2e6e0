"""Settings that tests of runs and comparisons share."""

import pytest

from tests.conftest import TINY


@pytest.fixture
def common(tiny_root, tmp_path, monkeypatch):
    """Settings of all runs on the tiny data."""
    monkeypatch.chdir(tmp_path)
    paths = {"data_path": str(tiny_root), "content_cache": str(tiny_root / "cache"), "encoder": "clip"}
    return {**TINY, **paths, "epochs": 2, "global_epochs": 1, "group_negatives": False}
