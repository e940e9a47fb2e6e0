"""Which settings can do something, given the model and the other settings: what is refused, dropped or named."""

import inspect
import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

from recbole.model import abstract_recommender, layers
from recbole.utils import ModelType

from recbole_perpeft.config.choices import (
    BY_USER,
    GROUP_PEFT,
    GROUP_PROJECTOR,
    GROUP_VECTOR,
    SHARED,
    USER_PROJECTOR,
    encoder_reads,
)
from recbole_perpeft.config.registry import is_perpeft, reads_content, settings_files
from recbole_perpeft.config.settings import PROPERTIES, RECBOLE_PROPERTIES, keys_of, shown
from recbole_perpeft.utils.errors import SettingError

_DATA = "the data are read from the atomic files in every run"
_NEVER_SAVED = dict.fromkeys(("save_dataset", "dataset_save_path", "save_dataloaders", "dataloaders_save_path"), _DATA)

_REPLACED = {  # settings of RecBole that models of this package have no use for
    "train_batch_size": "batches are made of users: set users_per_batch",
    "train_neg_sample_args": "negatives are drawn for each group: set num_negatives and group_negatives",
    "shuffle": "batches are shuffled in every epoch",
    "enable_scaler": "gradients are not scaled",
    **_NEVER_SAVED,
}  # fmt: skip

_OF_TRAINING = (
    "epochs", "train_batch_size", "learner", "learning_rate", "weight_decay", "clip_grad_norm", "stopping_step",
    "eval_step",
)  # fmt: skip
_NEGATIVES = ("num_negatives", "group_negatives", "correct_sampling")
_IMAGE = ("image_dir", "image_field", "image_encoder", "image_pooling", "content_workers")
_TEXT = ("text_fields", "text_template", "text_encoder", "text_pooling", "max_text_length")
_PEFT = ("peft_config", "peft_layers", "peft_learning_rate")
_BY_PROJECTOR = GROUP_PROJECTOR, USER_PROJECTOR

# -- the backbone ---------------------------------------------------------------------------------------------------


def unread(model_class: type) -> dict[str, str]:
    """Settings of this package that no value of the others lets act on a PerPEFT model, each with the reason.

    They follow from what the model's class says of itself: ``losses``, ``negatives_with``, ``whole_table`` and
    ``trains_by_user``.
    """
    kinds = {model_class.negatives_with(loss) for loss in model_class.possible_losses() or (None,)}
    reasons = {}
    if kinds == {None}:
        reasons |= dict.fromkeys(_NEGATIVES, "its loss is its own and takes no negatives")
    elif SHARED not in kinds:
        reasons["correct_sampling"] = "it is for loss_type: CE, whose negatives are a sample of the items of a softmax"
    if not model_class.possible_losses():
        general = model_class.type == ModelType.GENERAL
        whose = "general recommenders keep the loss that they come with" if general else "its loss is its own"
        reasons["loss_type"] = whose
    if getattr(model_class, "trains_by_user", False):
        reasons["prefixes_per_user"] = "it trains on users with all their purchases"
    return reasons


def drop_unread(config) -> None:
    """Take out of ``config`` what cannot act on its PerPEFT model, so that no log or checkpoint shows it.

    Raises
    ------
    SettingError
        If such a setting was given and asks for something.
    """
    for key, reason in unread(config.model_class).items():
        value = config.external_config_dict.get(key)
        if value:
            raise SettingError(
                f"{key}: {value} is not possible with {config.model}: {reason}. Set it to ~ or leave it out."
            )
        config.final_config_dict.pop(key, None)


# -- other settings -------------------------------------------------------------------------------------------------


def _said(*keys: str) -> Callable[[dict], str]:
    """Names these settings with their values."""
    return lambda config: " and ".join(f"{key}: {shown(config[key])}" for key in keys)


def _when(condition: Callable[[dict], bool], *keys: str) -> Callable[[dict], str | None]:
    """Names the settings ``keys`` where the condition holds."""
    return lambda config: _said(*keys)(config) if condition(config) else None


def _is_none(peft_type: object) -> bool:
    return str(peft_type or "NONE").upper() == "NONE"


def _weighs_nothing(config) -> bool:
    return config["content_weight"] == 0


def _groups_see_alike(config) -> bool:
    return _weighs_nothing(config) and config["personalised_by"] in (GROUP_PEFT, GROUP_PROJECTOR)


def _takes_all_epochs(config) -> bool:
    return config["global_epochs"] >= config["epochs"]


def _is_trained(config) -> bool:
    """Whether validations are of epochs; a model that is not trained is validated whatever ``eval_step``."""
    return getattr(config.model_class, "is_trained", True)


_BY_CONTENT = ("likeness", "coherence")  # ways of grouping that read what items are


def _content_is_not_read(config) -> bool:
    grouped = config["num_groups"] > 1 and not _takes_all_epochs(config)
    is_read = config["content_term"] or config["similar_items"] or (grouped and config["grouping"] in _BY_CONTENT)
    return _weighs_nothing(config) and not is_read


_ONE_GROUP = _when(lambda config: config["num_groups"] == 1, "num_groups")
_NO_STAGE_3 = _when(_takes_all_epochs, "global_epochs", "epochs")
_NONE = _when(lambda config: _is_none(config["peft_type"]), "peft_type")
_NO_WEIGHT = _when(_weighs_nothing, "content_weight")
_SEEN_ALIKE = _when(_groups_see_alike, "content_weight")
_NO_CONTENT = _when(_content_is_not_read, "content_weight")
_NO_IMAGE = _when(lambda config: "image" not in config["modalities"], "modalities")
_NO_TEXT = _when(lambda config: "text" not in config["modalities"], "modalities")
_BY_USER = _when(lambda config: config["personalised_by"] in BY_USER, "personalised_by")
_NO_VALIDATION = _when(lambda config: config["eval_step"] == 0 and _is_trained(config), "eval_step")

# Settings, and what takes their effect: a function that names it, or gives None where they have one.
_NEEDS: list[tuple[tuple[str, ...], Callable[[dict], str | None]]] = [
    (("grouping", "regroup_epochs", "group_negatives"), _ONE_GROUP),
    (("grouping", "regroup_epochs", "group_negatives"), _NO_STAGE_3),
    (("soft_groups",), lambda c: (
        _ONE_GROUP(c) or _NO_STAGE_3(c) or _NO_VALIDATION(c) or _BY_USER(c))),
    (("personalised_by",), lambda c: _ONE_GROUP(c) if c["personalised_by"] != GROUP_VECTOR else None),
    (("personalised_by",), lambda c: _NO_STAGE_3(c) if c["personalised_by"] != GROUP_VECTOR else None),
    (("global_epochs",), _ONE_GROUP),
    (("regroup_epochs", "soft_groups"), _SEEN_ALIKE),
    (("personalised_by",), lambda c: _NO_WEIGHT(c) if c["personalised_by"] in _BY_PROJECTOR else None),
    (("regroup_epochs",), lambda c: (
        _said("epochs", "global_epochs")(c) if c["epochs"] - c["global_epochs"] <= c["regroup_epochs"] else None)),
    (("content_term", "purchase_term"), _NO_VALIDATION),
    (("correct_sampling",), _when(lambda c: c["num_negatives"] is None, "num_negatives")),
    (("correct_sampling",), _when(lambda c: c.model_class.negatives_with(c["loss_type"]) != SHARED, "loss_type")),
    (("sequence_stride",), _when(lambda c: not c.model_class.shares_passes, "model")),
    (("softmax_temperature",), _when(lambda c: c["loss_type"] != "CE", "loss_type")),
    (("peft_type",), lambda c: None if _is_none(c.external_config_dict["peft_type"]) else _NO_WEIGHT(c)),
    ((*_PEFT, "iisan_form", "compile_encoder", "encoding_batch_size", "projector_size"), _NO_WEIGHT),
    ((*_PEFT, "compile_encoder", "encoding_batch_size"), _NONE),
    *(((key,), _when(lambda c, key=key: not encoder_reads(c, key), "peft_type"))
      for key in ("peft_config", "peft_layers", "iisan_form", "compile_encoder")),
    (("precision", *_IMAGE, *_TEXT), _NO_CONTENT),
]  # fmt: skip

_NEEDS_OF_CONTENT = [  # the same, of every model that reads content
    (("encoder", "precision", "missing_content", "content_cache", *_IMAGE, *_TEXT),
     _when(lambda c: bool(c["item_features"]), "item_features")),
    (_IMAGE, _NO_IMAGE),
    (_TEXT, _NO_TEXT),
    (("image_dir",), _when(lambda c: c["image_field"] is not None, "image_field")),
    (("encoder",), _when(lambda c: c["image_encoder"] is not None, "image_encoder")),
    (("encoder",), _when(lambda c: c["text_encoder"] is not None, "text_encoder")),
]  # fmt: skip

_NEEDS_OF_ANY = [  # the same, of RecBole's own models too
    (("stopping_step", "valid_metric"), _NO_VALIDATION),
    (("wandb_project",), _when(lambda c: not c["log_wandb"], "log_wandb")),
    (("gpu_id",), _when(lambda c: not c["use_gpu"], "use_gpu")),
]


def without_effect(config) -> list[str]:
    """A sentence for each setting that was given, but cannot change anything.

    Parameters
    ----------
    config
        A :class:`~recbole_perpeft.config.Config`, of any model.
    """
    given, ours = _given(config), is_perpeft(config.model_class)
    external, defaults = config.external_config_dict, config.internal_config_dict
    sentences = {
        key: f"{key}: {external[key]} has no effect on {config['model']}: {instead}."
        for key, instead in (_REPLACED if ours else _NEVER_SAVED).items()
        if key in external and external[key] != defaults.get(key)
    }
    if ours:
        for key, reason in unread(config.model_class).items():
            if external.get(key) is not None:
                sentences[key] = f"{key}: {external[key]} has no effect on {config['model']}: {reason}."
    for key in given.keys() & _not_read_by(config.model_class) - sentences.keys():
        sentences[key] = f"{key}: {given[key]} has no effect on {config['model']}, which does not read it."
    of_content = _NEEDS_OF_CONTENT if reads_content(config.model_class) else []
    for keys, taken_by in (_NEEDS if ours else []) + of_content + _NEEDS_OF_ANY:
        for key in given.keys() & set(keys) - sentences.keys():
            if reason := taken_by(config):
                sentences[key] = f"{key}: {given[key]} has no effect with {reason}."
    if config["MODEL_TYPE"] == ModelType.TRADITIONAL or not _is_trained(config):
        for key in given.keys() & set(_OF_TRAINING) - sentences.keys():
            sentences[key] = f"{key}: {given[key]} has no effect on {config['model']}, which counts and is not trained."
    if "MAX_ITEM_LIST_LENGTH" in given and config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        length = given["MAX_ITEM_LIST_LENGTH"]
        sentences["MAX_ITEM_LIST_LENGTH"] = (
            f"MAX_ITEM_LIST_LENGTH: {length} has no effect on {config['model']}, which reads no sequences."
        )
    if "grow_history" in given and config["MODEL_TYPE"] != ModelType.GENERAL:
        sentences["grow_history"] = (
            f"grow_history: {given['grow_history']} has no effect on {config['model']}: it is for general recommenders."
        )
    return [sentences[key] for key in config.external_config_dict if key in sentences]


def _given(config) -> dict:
    """All of files and command line; of dictionaries, which may hold every setting, what differs from the defaults."""
    by_hand, defaults = {**config.file_config_dict, **config.cmd_config_dict}, config.internal_config_dict
    return {
        key: value
        for key, value in config.external_config_dict.items()
        if value is not None and (key in by_hand or value != defaults.get(key))
    }


# -- settings of other models ---------------------------------------------------------------------------------------


@cache
def _not_read_by(model_class: type) -> frozenset[str]:
    """Of the settings that YAML files of models name, those that neither ``model_class`` nor all models read."""
    ours, recboles = PROPERTIES / "model", RECBOLE_PROPERTIES / "model"
    name = getattr(model_class, "backbone_name", model_class.__name__)
    files = [RECBOLE_PROPERTIES / "overall.yaml", RECBOLE_PROPERTIES / "dataset" / "sample.yaml"]
    files += [PROPERTIES / "overall.yaml", recboles / f"{name}.yaml"]
    files += settings_files(model_class)
    of_models = keys_of([*recboles.glob("*.yaml"), *ours.glob("*.yaml")])
    return frozenset(of_models - keys_of(files) - _quoted_by(model_class) - {"resume"})


def _quoted_by(model_class: type) -> set[str]:
    """Words in quotes where a class and its bases are written, and settings that layers read."""
    texts = []
    for cls in model_class.__mro__:
        with suppress(TypeError, OSError):  # built in, or written in a notebook
            # in a file with classes of other models
            among_others = cls.__module__ == abstract_recommender.__name__ or "backbone_name" in vars(cls)
            texts.append(inspect.getsource(cls) if among_others else Path(inspect.getsourcefile(cls)).read_text())
    words = {word for text in texts for word in re.findall(r"""["']([\w-]+)["']""", text)}
    return words | set(re.findall(r"""config\[["']([\w-]+)["']\]""", inspect.getsource(layers)))
