"""Values of settings that are possible."""

from pathlib import Path

from recbole.utils import ModelType

from recbole_perpeft.conditioning import PERSONALISED_BY, USER_PROJECTOR, USER_VECTOR
from recbole_perpeft.errors import SettingError
from recbole_perpeft.metric_checks import check_metrics

_CHOICES = {
    "loss_type": ("BCE", "BPR", "CE"),
    "personalised_by": PERSONALISED_BY,
    "grouping": ("kmeans", "coherence", "random"),
    "prefix_window": ("random", "last"),
    "missing_content": ("error", "neutral"),
    "precision": ("auto", "fp32", "bf16", "fp16"),
}

_AT_LEAST = {
    "epochs": 1, "global_epochs": 0, "num_groups": 1, "users_per_batch": 1, "prefixes_per_user": 1, "user_sample": 1,
    "num_negatives": 0, "projector_size": 1, "topk": 1, "max_text_length": 1, "content_workers": 1, "stopping_step": 0,
    "MAX_ITEM_LIST_LENGTH": 1, "peft_layers": 1, "batches_per_encoding": 1, "encoding_batch_size": 1,
    "valid_user_sample": 1, "regroup_epochs": 1, "refresh_steps": 1, "batches_per_step": 1,
}  # fmt: skip

_DATA = "the data are read from the atomic files in every run"

_REPLACED = {  # settings of RecBole that models of this package have no use for
    "train_batch_size": "batches are made of users: set users_per_batch",
    "train_neg_sample_args": "negatives are drawn for each group: set num_negatives and group_negatives",
    "shuffle": "batches are shuffled in every epoch",
    "enable_scaler": "gradients are not scaled",
    "save_dataset": _DATA, "dataset_save_path": _DATA, "save_dataloaders": _DATA, "dataloaders_save_path": _DATA,
}  # fmt: skip


def check_values(config, is_ours: bool) -> None:
    """Refuse values that would fail hours later, or deep inside torch; fill in what follows from others.

    Parameters
    ----------
    config
        A :class:`~recbole_perpeft.config.Config`.
    is_ours
        Whether its model is one of this package.

    Raises
    ------
    SettingError
        Names the setting, its value and what is possible.
    """
    for key, least in _AT_LEAST.items():
        for value in config[key] if isinstance(config[key], list) else [config[key]]:
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                unquoted = f" The shell put it in place of a ~: write '{key}=~'." if value == str(Path.home()) else ""
                raise SettingError(
                    f"{key}: {value!r} is not possible: it must be a whole number from {least} up.{unquoted}"
                )
    check_metrics(config)
    share = config["cold_items"]
    if share is not None and not (_is_number(share) and 0 < share < 1):
        raise SettingError(f"cold_items: {share!r} is not possible: it must be between 0 and 1, or ~.")
    if not is_ours:
        return
    own_loss = config["MODEL_TYPE"] == ModelType.GENERAL
    if own_loss and config["loss_type"] is not None:
        raise SettingError(
            f"loss_type: {config['loss_type']} is not possible with {config.model}: general recommenders keep the "
            "loss that they come with. Set it to ~."
        )
    for key, allowed in _CHOICES.items():
        if config[key] not in allowed and not (key == "loss_type" and own_loss):
            raise SettingError.unknown(key, config[key], allowed)
    own_rate = [] if config["peft_learning_rate"] is None else ["peft_learning_rate"]
    for key in ("learning_rate", *own_rate, "content_weight", "weight_decay", "l2_emb"):
        if not (_is_number(config[key]) and config[key] >= 0):
            raise SettingError(f"{key}: {config[key]!r} is not possible: it must be a number from 0 up.")
    epochs = config["averaging_epochs"]
    if epochs is not None and not (_is_number(epochs) and epochs > 0):
        raise SettingError(f"averaging_epochs: {epochs!r} is not possible: it must be a number above 0, or ~.")
    for key in ("group_sharing", "group_mixing", "catalogue_negatives", "learning_rate_decay"):
        if not (_is_number(config[key]) and 0 <= config[key] <= 1):
            raise SettingError(f"{key}: {config[key]!r} is not possible: it must be a number from 0 to 1.")
    if not config["num_negatives"] and config["loss_type"] != "CE":
        value = "~" if config["num_negatives"] is None else 0
        raise SettingError(
            f"num_negatives: {value} is not possible with loss_type: {config['loss_type'] or '~'}. Set 1 or more."
        )
    if config["catalogue_negatives"] and config["num_negatives"] is None and config["loss_type"] == "CE":
        raise SettingError(
            f"catalogue_negatives: {config['catalogue_negatives']} is not possible with num_negatives: ~, where "
            "nothing is drawn: all items of the group compete, or all. Set it to 0, or group_negatives: False."
        )
    if config["correct_sampling"] and config["loss_type"] != "CE":
        raise SettingError(
            f"correct_sampling: True is not possible with loss_type: {config['loss_type'] or '~'}: it is for CE, whose "
            "negatives are a sample of the items of a softmax. Set it to False."
        )
    if config["batches_per_step"] > 1 and config["batches_per_encoding"] > 1:
        raise SettingError(
            f"batches_per_step: {config['batches_per_step']} is not possible with batches_per_encoding: "
            f"{config['batches_per_encoding']}, which takes a step on each batch. Set one of them to 1."
        )
    by_user = config["personalised_by"] in (USER_PROJECTOR, USER_VECTOR)
    for key, off in (("regroup_epochs", "~"), ("group_mixing", "0")):
        if config[key] and by_user:
            raise SettingError(
                f"{key}: {config[key]} is not possible with personalised_by: {config['personalised_by']}: groups see "
                f"items alike. Set it to {off}, or personalise by group."
            )
    if config["num_negatives"] is None and by_user:
        raise SettingError(
            f"num_negatives: ~ is not possible with personalised_by: {config['personalised_by']}, which would need "
            "every item once for each user of a batch. Set 1 or more."
        )
    only_epochs = "epochs" in config.external_config_dict and "global_epochs" not in config.external_config_dict
    if config["global_epochs"] is None or only_epochs:
        config["global_epochs"] = -(-config["epochs"] // 3)
    if config["global_epochs"] > config["epochs"]:
        raise SettingError(
            f"global_epochs: {config['global_epochs']} is more than epochs: {config['epochs']}. epochs counts all "
            f"stages, so set epochs to at least {config['global_epochs']}."
        )


def without_effect(config) -> list[str]:
    """A sentence for each setting of RecBole that was given, but that models of this package have no use for.

    Parameters
    ----------
    config
        A :class:`~recbole_perpeft.config.Config` of such a model.
    """
    given, defaults = config.external_config_dict, config.internal_config_dict
    return [
        f"{key}: {given[key]} has no effect on {config['model']}: {instead}."
        for key, instead in _REPLACED.items()
        if key in given and given[key] != defaults.get(key)
    ]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
