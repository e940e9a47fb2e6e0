"""The settings that this package knows more of than their default: ONE table, from which checks and identities follow.

A new setting is a line in a YAML file of ``properties/``, which has its default and says what it does, and an entry
here. What is not here counts as any other: a run that goes on must have it as it was.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Flag, auto

from recbole_perpeft.config.choices import FEATURE_FORMS, PERSONALISED_BY, registered
from recbole_perpeft.utils.errors import SettingError


class Kind(Flag):
    """What a setting may change; one without a kind counts always.

    Attributes
    ----------
    PLACE
        Where things lie and what is shown: no number depends on it. Of an encoder and of pictures the content counts,
        of ``precision: auto`` what it stands for on this machine.
    CHANGEABLE
        May change in the course of a training, and is named in the log: how long it goes on and at which rates, and
        what changes rounding at most.
    PROTOCOL
        How a trained model is measured. A checkpoint may be measured in another way; to train on with scores of two
        protocols would compare what cannot be compared.
    GROUPS
        Comes after stage 1, which neither reads nor depends on it.
    """

    PLACE = auto()
    CHANGEABLE = auto()
    PROTOCOL = auto()
    GROUPS = auto()


_COUNTS = Kind(0)
REGISTERED = "registered"  # what is possible are the names of a registry


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, with or without these; ``whole`` ones, or any."""

    low: float
    high: float | None = None
    whole: bool = False
    ends: bool = True

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        if self.ends:
            return self.low <= value and (self.high is None or value <= self.high)
        return self.low < value and (self.high is None or value < self.high)

    def __str__(self) -> str:
        number = "a whole number" if self.whole else "a number"
        if self.high is None:
            return f"{number} from {self.low} up" if self.ends else f"{number} above {self.low}, or ~"
        return f"{number} from {self.low} to {self.high}" if self.ends else f"between {self.low} and {self.high}, or ~"


@dataclass(frozen=True)
class Setting:
    """What is known of a setting beside its default.

    Attributes
    ----------
    type : type
        Of its values beside ``~``. What is typed for a text arrives as it was typed, never as a number or an object.
    possible : Range, tuple of str or None
        Which values there are; the names of a registry for :data:`REGISTERED`; None says nothing.
    kind : Kind
        What it may change.
    any_model : bool
        Whether it is looked at whatever the model.
    any_case : bool
        Whether capitals do not matter in its names.
    alone : bool
        Whether a list may be written as its only member.
    none : bool
        Whether ``~`` is possible although it is not the default.
    """

    type: type
    possible: Range | tuple[str, ...] | str | None = None
    kind: Kind = _COUNTS
    any_model: bool = False
    any_case: bool = False
    alone: bool = False
    none: bool = False


def _from(least: int, kind: Kind = _COUNTS, any_model: bool = True) -> Setting:
    return Setting(int, Range(least, whole=True), kind, any_model)


def _any(type_: type, possible: Range | tuple[str, ...] | None = None, kind: Kind = _COUNTS) -> Setting:
    return Setting(type_, possible, kind, any_model=True)


SETTINGS: dict[str, Setting] = {
    # the run
    "model": _any(str),
    "dataset": _any(str),
    "config_file": _any(object, kind=Kind.PLACE),
    "config_files": _any(list, kind=Kind.PLACE),
    "resume": _any(str, kind=Kind.PLACE),
    "warm_start": _any(str),
    "checkpoint_dir": _any(str, kind=Kind.PLACE),
    "data_path": _any(str, kind=Kind.PLACE),
    "dataset_save_path": _any(str, kind=Kind.PLACE),
    "dataloaders_save_path": _any(str, kind=Kind.PLACE),
    "save_dataset": _any(bool, kind=Kind.PLACE),
    "save_dataloaders": _any(bool, kind=Kind.PLACE),
    "show_progress": _any(bool, kind=Kind.PLACE),
    "state": Setting(str, ("debug", "info", "warning", "error", "critical"), Kind.PLACE, any_model=True, any_case=True),
    "log_wandb": _any(bool, kind=Kind.PLACE),
    "wandb_project": _any(str, kind=Kind.PLACE),
    "loss_decimal_place": _from(0, Kind.PLACE),
    "worker": _from(0, Kind.PLACE),
    "gpu_id": _any(object, kind=Kind.PLACE),  # a text, or a number
    "use_gpu": _any(bool, kind=Kind.CHANGEABLE),
    # purchases
    "load_col": _any(dict),
    "unbought_items": _any(bool),
    "rm_dup_inter": _any(str),
    "user_inter_num_interval": _any(str),
    "item_inter_num_interval": _any(str),
    "user_sample": _from(1),
    "cold_items": _any(float, Range(0, 1, ends=False)),
    "sample_seed": _any(int),
    "MAX_ITEM_LIST_LENGTH": _from(1),
    # evaluation
    "eval_args": _any(dict),
    "metrics": Setting(list, kind=Kind.PROTOCOL, any_model=True, alone=True),
    "topk": Setting(list, kind=Kind.PROTOCOL, any_model=True, alone=True),
    "valid_metric": _any(str, kind=Kind.PROTOCOL),
    "metric_decimal_place": _from(0, Kind.PROTOCOL),
    "mask_history": _any(bool, kind=Kind.PROTOCOL),
    "grow_history": _any(bool, kind=Kind.PROTOCOL),
    "repeatable": _any(bool, kind=Kind.PROTOCOL),
    "tail_ratio": _any(float),
    "eval_step": _from(0, Kind.CHANGEABLE),
    "eval_batch_size": _from(1, Kind.CHANGEABLE),
    # backbones
    "hidden_size": _from(1),
    "inner_size": _from(1),
    "embedding_size": _from(1),
    "n_heads": _from(1),
    "n_layers": _from(0),
    "num_layers": _from(1),
    "hidden_act": _any(str, ("gelu", "relu", "swish", "tanh", "sigmoid")),
    "hidden_dropout_prob": _any(float),
    "attn_dropout_prob": _any(float),
    # content
    "modalities": Setting(list, ("image", "text"), alone=True),
    "text_fields": Setting(list),
    "text_template": Setting(str),
    "image_field": Setting(str),
    "image_dir": Setting(str, kind=Kind.PLACE),
    "missing_content": Setting(str, ("error", "neutral")),
    "item_features": Setting(dict, none=True),
    "content_cache": Setting(str, kind=Kind.PLACE),
    "content_workers": _from(1, Kind.PLACE),
    "neighbour_features": Setting(list, FEATURE_FORMS, alone=True),
    "neighbour_decay": Setting(list, Range(0, 1), alone=True),
    # foundation model
    "encoder": Setting(str, kind=Kind.PLACE),
    "image_encoder": Setting(str, kind=Kind.PLACE),
    "text_encoder": Setting(str, kind=Kind.PLACE),
    "image_pooling": Setting(str),
    "text_pooling": Setting(str),
    "max_text_length": _from(1),
    "precision": Setting(str, ("auto", "fp32", "bf16", "fp16"), Kind.PLACE),
    # PEFT modules
    "peft_type": Setting(str),
    "peft_config": Setting(dict),
    "iisan_form": Setting(str, ("normalised", "authors")),
    "peft_layers": Setting(int, Range(1, whole=True), none=True),
    "compile_encoder": Setting(bool, none=True),
    "content_weight": Setting(float, Range(0)),
    "projector_size": _from(1),
    "content_term": Setting(bool),
    "purchase_term": Setting(bool),
    # groups
    "num_groups": _from(1, Kind.GROUPS),
    "grouping": Setting(str, REGISTERED, Kind.GROUPS),
    "regroup_epochs": _from(1, Kind.GROUPS),
    "personalised_by": Setting(str, PERSONALISED_BY),
    "soft_groups": Setting(bool, kind=Kind.GROUPS),
    "group_negatives": Setting(bool, kind=Kind.GROUPS),
    # training
    "epochs": _from(0, Kind.GROUPS | Kind.CHANGEABLE),
    "global_epochs": _from(0),
    "stopping_step": _from(0, Kind.CHANGEABLE),
    "loss_type": _any(str),
    "num_negatives": Setting(int, Range(0, whole=True), any_model=True, none=True),
    "correct_sampling": Setting(bool),
    "softmax_temperature": Setting(float, Range(0, ends=False)),
    "similar_items": Setting(int, Range(1, whole=True), none=True),
    "users_per_batch": Setting(int, Range(1, whole=True), any_model=True, none=True),
    "train_batch_size": _from(1),
    "batches_per_encoding": _from(1),
    "encoding_batch_size": _from(1, Kind.CHANGEABLE),
    "prefixes_per_user": _from(1),
    "sequence_stride": Setting(int, Range(1, whole=True), none=True),
    # RecBole takes adam for any other, without a word
    "learner": Setting(str, ("adam", "adamw", "sgd", "adagrad", "rmsprop"), any_model=True, any_case=True),
    "learning_rate": _any(float, Range(0), Kind.CHANGEABLE),
    "peft_learning_rate": Setting(float, Range(0), Kind.CHANGEABLE),
    "weight_decay": _any(float, Range(0)),
    "clip_grad_norm": _any(dict, kind=Kind.CHANGEABLE),
    "averaging_epochs": Setting(float, Range(0, ends=False), none=True),
    "l2_emb": Setting(float, Range(0), none=True),
}

# How a checkpoint was made that does not know these settings.
_BEFORE_THERE_WERE = {"grow_history": False}
_OF_OURS = {"content_term": False, "purchase_term": False, "soft_groups": False, "compile_encoder": False}
_OF_MODELS = {
    "PerPEFTLightGCN": {"loss_type": "BPR", "similar_items": None},
    "PerPEFTSASRec": {"sequence_stride": 1},
    "PerPEFTGRU4Rec": {"sequence_stride": 1},
}

_OF_PROCESSES = ("nproc", "world_size", "ip", "port", "group_offset")  # of the start of a run, not of the run

GONE = {  # what to do without them
    "batches_per_step": "Leave it out; users_per_batch makes a step of more users.",
    "share_items": "Leave it out; batches_per_encoding encodes fewer items.",
    "refresh_steps": "Leave it out: items outside the batch are encoded anew at validations.",
    "prefix_window": "Leave it out: prefixes_per_user takes the last prefixes.",
    "catalogue_negatives": "Set group_negatives: False to draw all negatives from the catalogue.",
    "group_mixing": "Leave it out: soft_groups finds how much of a user's scores comes from other groups.",
    "group_sharing": "Leave it out, or try soft_groups.",
    "learning_rate_decay": "Leave it out, or try peft_learning_rate or averaging_epochs.",
    "valid_user_sample": "Leave it out, or set user_sample or a larger eval_step.",
}

SCORED_BY = {"group_mixing": 0}  # settings that are gone, by which models scored, with the value that left scores alone


def check_known(keys: Iterable[str], known: Mapping[str, object]) -> None:
    """Refuse names of settings that nobody reads.

    Raises
    ------
    SettingError
        Names the nearest; of a setting that is gone, what to do without it; of what starts processes, where it goes.
    """
    for key in keys:
        if key in GONE:
            raise SettingError(f"{key} is gone. {GONE[key]} docs/changelog.md has more.")
        if key in _OF_PROCESSES:
            raise SettingError(
                f"{key} is no setting, it says which processes to start: give --{key} to run_recbole_perpeft.py, or "
                f"{key} to quick_start.run."
            )
        if key not in known:
            raise SettingError.unknown("setting", key, known)


def as_they_were(settings: Mapping[str, object], ours: bool) -> dict[str, object]:
    """``settings`` of a checkpoint, of a model of ours or of RecBole's, with those that there were none of then."""
    former = _BEFORE_THERE_WERE | (_OF_OURS if ours else {}) | _OF_MODELS.get(settings.get("model"), {})
    return former | dict(settings)


def of_kind(kind: Kind) -> frozenset[str]:
    """The settings of a kind."""
    return frozenset(key for key, setting in SETTINGS.items() if kind in setting.kind)


def values_of(key: str) -> Iterable[str] | None:
    """The names that a setting can have, if it has one of a few."""
    possible = SETTINGS[key].possible
    if possible == REGISTERED:
        return tuple(registered(key))
    return possible if isinstance(possible, tuple) else None
