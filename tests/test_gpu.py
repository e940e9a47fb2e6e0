"""On a GPU: what it computes, against the CPU; that no step waits for it; what moves between the two."""

from functools import partial

import pytest
import torch

from recbole_perpeft.config.registry import our_models
from recbole_perpeft.quick_start import load
from recbole_perpeft.trainer.stage import Stage
from tests.model.test_backbones import sizes
from tests.training import FAST, NO_DROPOUT, PEFTS, fit, gradients, gradients_of_portions, scatter_groups

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

ON_GPU = {"use_gpu": True}
WAYS = {
    "softmax over the batch": {},
    "softmax over all items": FAST,
    "BCE": {"loss_type": "BCE", "num_negatives": 1},
    "corrected": {"correct_sampling": True, "averaging_epochs": 1},
    "users' vectors": {"personalised_by": "user_vector", "grouping": "random"},
    "(IA)3": {"peft_type": "IA3", "peft_config": PEFTS["IA3"]},
    "IISAN": {"peft_type": "IISAN", "peft_config": {}},
    "frozen": {"peft_type": "NONE", "peft_config": {}},
}


def _twins(prepare, **settings):
    """The same model, in stage 3, on the CPU and on a GPU: two of ``(trainer, train_data, valid_data)``."""
    settings = {"peft_config": PEFTS["LORA"], **settings, **NO_DROPOUT}
    _, trainer, train_data, valid_data, _ = prepare(**settings)
    _, on_gpu, its_train_data, its_valid_data, _ = prepare(**settings, **ON_GPU)
    scatter_groups(trainer.model, train_data)
    its_train_data.set_groups(trainer.model.user_groups.numpy(), group_negatives=True)
    on_gpu.model.load_state_dict(trainer.model.state_dict())
    for one in (trainer, on_gpu):
        one.begin_stage(Stage.PERSONALISED)
    return (trainer, train_data, valid_data), (on_gpu, its_train_data, its_valid_data)


@pytest.mark.parametrize("settings", WAYS.values(), ids=WAYS)
def test_loss_and_gradients_are_those_of_the_cpu(prepare, settings):
    (trainer, train_data, _), (on_gpu, its_train_data, _) = _twins(prepare, **settings)
    assert on_gpu.model.item_tower.device.type == "cuda"
    batch, same_batch = next(iter(train_data)), next(iter(its_train_data))
    assert torch.equal(batch.items, same_batch.items)
    losses = trainer.model.calculate_loss(batch), on_gpu.model.calculate_loss(same_batch.to(on_gpu.device))
    torch.testing.assert_close(losses[1].cpu(), losses[0], rtol=1e-4, atol=1e-5)
    expected, found = gradients(trainer.model, losses[0]), gradients(on_gpu.model, losses[1])
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name].cpu(), gradient, rtol=1e-3, atol=1e-5, msg=name)


def test_portions_have_the_dropout_they_had_when_their_gradient_is_due(prepare):
    _, (on_gpu, its_train_data, _) = _twins(prepare, peft_config={"r": 2, "lora_dropout": 0.5})
    encoder, items = on_gpu.model.train().item_tower.encoder, next(iter(its_train_data)).items
    parameters = [parameter for _, parameter in encoder.adapter_parameters(1)]
    encode, upstream = partial(encoder.encode, group=1), torch.randn(len(items), encoder.feature_dim).to(on_gpu.device)
    for by_hand, found in zip(*gradients_of_portions(encode, items, 5, parameters, upstream), strict=True):
        assert by_hand.abs().max() > 0
        torch.testing.assert_close(found, by_hand, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("settings", WAYS.values(), ids=WAYS)
def test_users_of_all_groups_are_ranked_as_on_the_cpu(prepare, settings):
    (trainer, _, valid_data), (on_gpu, _, its_valid_data) = _twins(prepare, **settings)
    scores = []
    for one, data in ((trainer, valid_data), (on_gpu, its_valid_data)):
        one.model.eval()
        with torch.no_grad():
            interaction = next(iter(data))[0]
            scores.append(one.model.full_sort_predict(interaction.to(one.device)).cpu())
    torch.testing.assert_close(scores[1], scores[0], rtol=1e-4, atol=1e-4)
    assert on_gpu._valid_epoch(its_valid_data)[0] == pytest.approx(trainer._valid_epoch(valid_data)[0], abs=1e-3)


@pytest.mark.parametrize("model", our_models())
def test_a_backbone_trains_through_three_stages_and_is_loaded_again(prepare, model):
    trainer, result = fit(prepare, grouping="coherence", **sizes(model), **ON_GPU)
    assert trainer.stage == "personalised"
    assert all(parameter.device.type == "cuda" for parameter in trainer.model.parameters())
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())
    _, again, _, _, test_data = load(trainer.saved_model_file)
    assert again.model.item_tower.device.type == "cuda"
    assert again.evaluate(test_data) == pytest.approx(result, abs=1e-3)
    _, on_cpu, _, _, test_data = load(trainer.saved_model_file, {"use_gpu": False})
    assert on_cpu.model.item_tower.device.type == "cpu"
    assert on_cpu.evaluate(test_data) == pytest.approx(result, abs=0.03)  # 40 users: a tie may fall otherwise


@pytest.mark.parametrize("settings", [*WAYS.values(), {"regroup_epochs": 1}])
def test_training_goes_through_three_stages(prepare, settings):
    trainer, result = fit(prepare, **settings, **ON_GPU)
    assert trainer.stage == "personalised"
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())
    assert 0 <= result["ndcg@10"] <= 1


@pytest.mark.parametrize("precision", ["auto", "bf16", "fp16", "fp32"])
@pytest.mark.parametrize("enable_amp", [False, True])
def test_half_precision_trains(prepare, precision, enable_amp):
    trainer, _ = fit(prepare, precision=precision, enable_amp=enable_amp, **ON_GPU)
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())


def test_a_run_goes_on_after_it_was_killed_on_either(prepare):
    trainer, nothing = fit(prepare, stop_after=1, **ON_GPU)
    assert nothing is None
    for settings in (ON_GPU, {"use_gpu": False}):
        _, again, train_data, valid_data, test_data = prepare(**settings)
        again.resume_checkpoint(trainer.saved_model_file)
        again.fit(train_data, valid_data, verbose=False)
        assert again.stage == "personalised"
        again.evaluate(test_data)


@pytest.mark.parametrize("settings", WAYS.values(), ids=WAYS)
def test_no_step_waits_for_the_gpu(prepare, settings):
    _, trainer, train_data, *_ = prepare(**settings, **ON_GPU)
    trainer.begin_stage(Stage.PERSONALISED)
    windows = list(train_data.windows(trainer.config["batches_per_encoding"]))
    trainer.steps.train_window(windows[0])  # whatever is done once
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.steps.train_window(windows[1])
    finally:
        torch.cuda.set_sync_debug_mode(mode)
