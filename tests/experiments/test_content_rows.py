"""Rows of a comparison that are not trained."""

import pytest

from recbole_perpeft.commands.compare import compare


@pytest.mark.parametrize("model", ["PerPEFTSASRec", "PerPEFTBPR"])
def test_content_neighbours_read_the_content_settings_of_perpeft_rows(common, tmp_path, model):
    settings = {key: common[key] for key in ("data_path", "topk", "valid_metric", "show_progress", "use_gpu")}
    given = {key: common[key] for key in ("encoder", "content_cache", "precision")} | {"learning_rate": 0.01}
    summary, failed = compare(
        "tiny", tmp_path / "out", ["content_neighbours"], seeds=[1], model=model, settings=settings, for_perpeft=given
    )
    assert not failed
    assert "content_neighbours" in (tmp_path / "out" / "table.md").read_text()
    assert summary is not None
