"""The chart of a comparison."""

import pytest

from recbole_perpeft.experiments.chart import write_chart


@pytest.mark.filterwarnings("error")
def test_names_with_many_settings_leave_room_for_the_bars_of_the_chart(tmp_path):
    pytest.importorskip("matplotlib")
    many = "SASRec:learning_rate=0.0005,hidden_dropout_prob=0.5,attn_dropout_prob=0.2,learner=adamw,weight_decay=0.0001"
    score = {"ndcg@20": {"mean": 0.1, "std": None}}
    rows = [{"row": name, "variant": "perpeft", "test": score} for name in ("perpeft, LORA", many)]
    assert write_chart({"rows": rows, "metric": "ndcg@20"}, tmp_path / "chart.png") is None
    assert (tmp_path / "chart.png").is_file()
