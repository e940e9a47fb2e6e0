"""Stage 1 trained once: where runs that differ only in what comes after it find what it ends with."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch

import recbole_perpeft

# what stage 1 neither reads nor depends on
GROUP_SETTINGS = frozenset(
    {
        "num_groups", "grouping", "regroup_epochs", "group_sharing", "group_mixing", "group_negatives",
        "catalogue_negatives", "epochs",
    }
)  # fmt: skip
# where files go and what is shown, which no number depends on
_PLACES = frozenset({"checkpoint_dir", "show_progress"})


def file_of(folder: Path, config, identity: Mapping[str, str]) -> Path | None:
    """The file in ``folder`` of the stage 1 that ``config`` asks for; None if no other stage comes after it.

    Parameters
    ----------
    config
        All of its settings count, the seed included, but :data:`GROUP_SETTINGS`.
    identity
        From :func:`~recbole_perpeft.checkpoint.identity`.
    """
    if config["num_groups"] == 1 or config["epochs"] <= config["global_epochs"]:
        return None
    left_out = GROUP_SETTINGS | _PLACES
    counts = [{key: known[key] for key in known.keys() - left_out} for known in (config.settings(), identity)]
    content = json.dumps([recbole_perpeft.__version__, *counts], sort_keys=True, default=str)
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    return folder / f"{digest}.pth"


def for_other_groups(saved: Mapping[str, torch.Tensor], present: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state of stage 1 for a model with another number of groups, each of which stage 3 starts from the first.

    Parameters
    ----------
    saved
        The state of a model with some number of groups.
    present
        That of the model that takes it: what only this one has, or has in another shape, stays.
    """
    fits = {key for key, value in present.items() if key in saved and saved[key].shape == value.shape}
    return {key: saved[key] if key in fits else value for key, value in present.items()}
