"""What a run starts from, whatever its method and number of groups."""

import pytest

from tests.matrix import slow
from tests.training import FAST, KMEANS, fit, same


@pytest.mark.parametrize("settings", [{}, FAST, slow(KMEANS), slow({"peft_type": "IA3", "peft_config": {}})])
def test_stage_1_is_the_same_for_any_number_of_groups(prepare, settings):
    losses = [fit(prepare, num_groups=number, epochs=3, **settings)[0].train_loss_dict for number in (1, 3)]
    assert [losses[0][epoch] for epoch in (0, 1)] == [losses[1][epoch] for epoch in (0, 1)]
    assert losses[0][2] != losses[1][2]


@pytest.mark.parametrize("peft_type", ["NONE", "IA3"])
def test_runs_of_one_seed_start_from_the_same_backbone_and_projector_with_any_method(prepare, peft_type):
    lora, other = (prepare(peft_type=method, peft_config=None)[1].model for method in ("LORA", peft_type))
    own = ".encoder.", ".content_term."  # the latter's are zero at the start
    weights = [{n: p for n, p in m.named_parameters() if not any(k in n for k in own)} for m in (lora, other)]
    assert "item_tower.projectors.0.0.weight" in weights[0]
    assert same(*weights)
