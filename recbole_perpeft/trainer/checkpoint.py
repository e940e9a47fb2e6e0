"""What a training keeps: its best state in memory, and a file to go on from."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import nn

from recbole_perpeft.config.identity import PROTOCOL, differing
from recbole_perpeft.model.catalogue_axes import ITEMS
from recbole_perpeft.trainer import checkpoint_file
from recbole_perpeft.utils.errors import CheckpointError
from recbole_perpeft.utils.files import remove_empty, reserve
from recbole_perpeft.utils.mapped_rows import empty_rows, fill, release

_ROWS = 65_536  # of a table that are copied at a time


class Checkpoint:
    """The best state of a model so far, and the file that holds it, the last state and where training stands.

    It knows nothing of how the model is trained: what belongs to that is a dict that is written and read as it is.

    Parameters
    ----------
    config : recbole_perpeft.config.Config
        Its settings are written, and those of a file must fit them.
    model
        A PerPEFT model.

    Attributes
    ----------
    identity : dict
        From :mod:`~recbole_perpeft.config.identity`; empty until it is known.
    tokens : dict
        From :func:`~recbole_perpeft.trainer.carry_over.tokens_of`; empty until it is known.
    file : str
        Where it is written.
    has_file : bool
        Whether ``file`` is its own.
    best_state : dict or None
        On the CPU; None before there is any.
    """

    def __init__(self, config, model: nn.Module):
        self._config, self._model = config, model
        self.identity: dict[str, str] = {}
        self.tokens: dict[str, list[str]] = {}
        self.file, self.has_file = "", False
        self.best_state: dict[str, torch.Tensor] | None = None
        self._version_of_best: int | None = None  # of the model's weights, when they were the best state
        self._stage_1_state: dict[str, torch.Tensor] | None = None
        self._protocol_changed = False  # since the scores of a file that was resumed

    # -- in memory --------------------------------------------------------------------------------------------------

    def keep_best(self) -> None:
        """Take the model's state for the best one."""
        self.best_state = {key: self._copy(value.detach()) for key, value in self._model.state_dict().items()}
        self._version_of_best = self._model.weights_version

    def _copy(self, value: torch.Tensor) -> torch.Tensor:
        """On the CPU; of a large table a file is made, which is read only when the state is put back or written."""
        if value.dim() != 2 or value.dtype != torch.float32:
            return value.cpu().clone()
        place = partial(Path, self._config["checkpoint_dir"])
        return fill(empty_rows(*value.shape, torch.device("cpu"), place, "checkpoint_dir"), value.split(_ROWS))

    def take_best(self, state: dict) -> None:
        """Have the best state that ``state``, from :meth:`states`, has; the model stays as it is."""
        best = {key: value.cpu() for key, value in state["state_dict"].items()}
        self.best_state, self._version_of_best = best if state["has_best"] else None, None

    def restore_best(self) -> None:
        """Put the best state into the model; without one, the model stays as it is.

        A model that holds it already keeps the item tables that its validation has computed.
        """
        if self.best_state is not None and self._version_of_best != self._model.weights_version:
            self._model.load_state_dict(self.best_state)
            self._version_of_best = self._model.weights_version
            self._release_best()

    def _release_best(self) -> None:
        """Give back the memory of tables that were read from their files."""
        for value in (self.best_state or {}).values():
            release(value)

    def keep_stage_1(self) -> None:
        """Keep the best state of stage 1, from which stage 3 goes on."""
        self._stage_1_state = self.best_state

    @property
    def has_stage_1(self) -> bool:
        """Whether stage 1 has ended, and what it ended with is known, so that :meth:`stage_1_in_use` is possible."""
        return self._stage_1_state is not None

    @contextmanager
    def stage_1_in_use(self) -> Iterator[None]:
        """Let the model hold the best state of stage 1, one module for all users, for a while; then the best one."""
        self._model.load_state_dict(self._stage_1_state)
        try:
            yield
        finally:
            self.restore_best()

    # -- in a file --------------------------------------------------------------------------------------------------

    def states(self) -> dict:
        """What the file holds of the model: the best state, the last and stage 1's, and what they were made with."""
        last = {key: value.detach().cpu() for key, value in self._model.state_dict().items()}
        of_stage_1 = {"stage_1_state_dict": self._stage_1_state} if self.has_stage_1 else {}
        return {
            **of_stage_1,
            "identity": self.identity,
            "ids": {**self.tokens, "untrained": self._untrained()},
            "state_dict": self.best_state or last,
            "has_best": self.best_state is not None,
            "last_state_dict": last,
        }

    def _untrained(self) -> list[str]:
        """Tokens of the items that no training has seen."""
        items = self.tokens.get(ITEMS)
        return [items[item] for item in self._model.item_tower.untrained] if items else []

    def write(self, state: dict) -> None:
        """Write ``state`` and the settings; the first time under a name that no other run has.

        Raises
        ------
        CheckpointError
            If the file cannot be written.
        """
        if not self.has_file:
            self.file, self.has_file = str(reserve(self.file)), True
        try:
            checkpoint_file.write(self.file, {"settings": self._config.settings(), **state})
        except BaseException:
            remove_empty(self.file)
            raise
        self._release_best()

    def read(self, file: str | Path, to_train: bool) -> dict:
        """What ``file`` holds, if it fits.

        Raises
        ------
        CheckpointError
            If it cannot be read or was made from other data, other content, another encoder or with other settings.
        """
        state = checkpoint_file.read(file, self._config["device"])
        checkpoint_file.check(file, state, self._config.settings(), self.identity, to_train)
        return state

    def read_stage_1(self, file: str | Path, without: frozenset[str]) -> dict:
        """What stage 1 has left in ``file``, if it fits; settings of the run that are in ``without`` do not matter.

        Raises
        ------
        CheckpointError
            As :meth:`read`.
        """
        state = checkpoint_file.read(file, self._config["device"], holds="stage_1")["stage_1"]
        settings = {key: value for key, value in self._config.settings().items() if key not in without}
        checkpoint_file.check(file, state, settings, self.identity, to_train=True)
        return state

    def resume(self, file: str | Path, to_train: bool) -> dict:
        """As :meth:`read`; ``file`` is its own from now on."""
        state = self.read(file, to_train)
        self.file, self.has_file = str(file), True
        of_stage_1 = state.get("stage_1_state_dict")  # files of before have none
        self._stage_1_state = of_stage_1 and {key: value.cpu() for key, value in of_stage_1.items()}
        if state.get("ids"):  # a run that started from another checkpoint has items that only that one was trained on
            known, untrained = state["ids"][ITEMS], set(state["ids"]["untrained"])
            self._model.item_tower.untrained = [item for item, token in enumerate(known) if token in untrained]
        self._protocol_changed = any(key in PROTOCOL for key in differing(state["settings"], self._config.settings()))
        return state

    def load(self, state_dict: dict[str, torch.Tensor], file: str | Path) -> None:
        """Put ``state_dict``, which ``file`` holds, into the model.

        Raises
        ------
        CheckpointError
            If the model has other parts.
        """
        try:
            self._model.load_state_dict(state_dict)
        except RuntimeError as error:  # of another build
            reason = str(error).replace("\n", " ")
            raise CheckpointError(f"Checkpoint {file} does not fit {self._config['model']}: {reason}") from error

    def refuse_other_protocol(self) -> None:
        """Refuse to train on from a file whose best score was measured in another way.

        Raises
        ------
        CheckpointError
            If :meth:`resume` found one.
        """
        if self._protocol_changed:
            raise CheckpointError(
                f"Training cannot go on from {self.file}, which was loaded to be measured in another way: "
                "its best score so far is of other metrics. Load it without them."
            )
