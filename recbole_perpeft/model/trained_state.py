"""A PerPEFT model's state dict holds what was trained, without the frozen foundation model, under any prefix."""

from torch import nn

_ENCODER = "item_tower.encoder."


def save_trained_only(model: nn.Module) -> None:
    """Let ``model.state_dict()`` leave the foundation model out, and ``load_state_dict()`` do without it.

    As hooks of torch, so that this holds under any prefix: for a module that the model is part of, too.

    Parameters
    ----------
    model
        A PerPEFT model.
    """
    model.register_state_dict_post_hook(_leave_out_frozen)
    model.register_load_state_dict_pre_hook(_put_in_frozen)


def _leave_out_frozen(model: nn.Module, state_dict: dict, prefix: str, local_metadata: dict) -> None:
    for key in model.item_tower.encoder.frozen_state_keys():
        del state_dict[prefix + _ENCODER + key]


def _put_in_frozen(model: nn.Module, state_dict: dict, prefix: str, *others) -> None:
    """Before ``state_dict``, torch's own copy, is loaded: the foundation model stays as it is."""
    encoder = model.item_tower.encoder
    present = encoder.state_dict(keep_vars=True)  # the tensors themselves, which torch does not copy onto themselves
    state_dict.update({prefix + _ENCODER + key: present[key] for key in encoder.frozen_state_keys()})
