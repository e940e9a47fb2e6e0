"""What a general recommender knows its users to have bought in an evaluation: in its graph or their histories."""

from collections.abc import Iterator
from contextlib import contextmanager

from recbole.model.abstract_recommender import AutoEncoderMixin
from recbole.utils import ModelType
from torch import nn

from recbole_perpeft.utils.random_state import random_state_kept

# In which attributes RecBole's models hold users' purchases, and what they keep that was computed from these, by the
# class that sets them. Not here are models that know a user by what was trained alone, those whose training is a count
# of the purchases, and NNCF and GCMC, whose graph is part of their layers.
_PROPAGATED = ("restore_user_e", "restore_item_e")
_HELD = {
    "LightGCN": (("norm_adj_matrix",), _PROPAGATED),
    "NGCF": (("norm_adj_matrix",), _PROPAGATED),
    "NCL": (("norm_adj_mat",), _PROPAGATED),
    "SGL": (("train_graph",), _PROPAGATED),
    "SpectralCF": (("A_hat",), _PROPAGATED),
    "DGCF": (("all_h_list", "all_t_list", "edge2head_mat", "head2edge_mat", "tail2edge_mat", "num_edge"), _PROPAGATED),
    "FISM": (("history_item_matrix", "history_lens", "mask_mat"), ()),
    "NAIS": (("history_item_matrix", "history_lens", "mask_mat"), ()),
    "SimpleX": (("history_item_id", "history_item_len"), ()),
    "DMF": (
        ("history_item_id", "history_item_value", "history_user_id", "history_user_value", "interaction_matrix"),
        ("i_embedding",),
    ),
    AutoEncoderMixin.__name__: (("history_item_id", "history_item_value"), ()),
}


def reads_purchases(model_class: type) -> bool:
    """Whether scores of a class of general models depend on what users have bought since the training."""
    return _holder(model_class) is not None or not getattr(model_class, "is_trained", True)


@contextmanager
def knowing(model: nn.Module, data) -> Iterator[None]:
    """Let ``model`` know for a while what the users of ``data`` had bought before, by the same trained weights.

    RecBole's general recommenders know of a user what they bought in training, in the test too, where a sequential one
    sees the validation purchase. Here the purchases that the model was built with make way for those of ``data``, and
    come back whatever happens: no training and no validation sees them.

    Parameters
    ----------
    model
        Any model.
    data
        An evaluation loader. Its ``known`` is a data set of purchases; None leaves the model as it is.
    """
    known = getattr(data, "known", None)
    if known is None or not (_holder(type(model)) or hasattr(model, "holdings")):
        yield
        return
    held, computed = _held(model, data.config, known)
    attributes = vars(model)
    # a checkpoint of RecBole's would bring back what was computed from the purchases of training
    held |= {"load_other_parameter": _leave_out}
    before = {name: attributes[name] for name in held if name in attributes} | computed
    held |= computed
    attributes.update(held)
    try:
        yield
    finally:
        for name in held:
            del attributes[name]
        attributes.update(before)


def _held(model: nn.Module, config, known) -> tuple[dict[str, object], dict[str, None]]:
    """What ``model`` would hold of the purchases of ``known``, by attribute, and what it is to compute from them."""
    held, computed = model.holdings(known) if hasattr(model, "holdings") else {}, ()
    if holder := _holder(type(model)):
        names, computed = _HELD[holder.__name__]
        with random_state_kept():
            anew = _backbone(type(model))(config, known)
        held |= {name: getattr(anew, name) for name in names}
    return held, dict.fromkeys(computed)


def _holder(model_class: type) -> type | None:
    """The class, of ``model_class`` and its bases, that holds purchases."""
    if model_class.type != ModelType.GENERAL:
        return None
    return next((cls for cls in model_class.__mro__ if cls.__name__ in _HELD), None)


def _backbone(model_class: type) -> type:
    """RecBole's model, without an item tower."""
    return next(cls for cls in model_class.__mro__ if cls.__module__.startswith("recbole.model."))


def _leave_out(parameters: dict | None) -> None:
    pass
