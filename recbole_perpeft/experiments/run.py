"""One training run: what it is, what its files are called, and the result that it leaves."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from recbole_perpeft.config.registry import our_models
from recbole_perpeft.trainer.stage_1_cache import GROUP_SETTINGS
from recbole_perpeft.utils.errors import DataError

FORMAT = 1


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes
    ----------
    name : str
        What it is called in files and in the log.
    model, dataset : str
        As for a single run.
    settings : dict
        All other settings, the seed included.
    test : bool
        Whether the test purchases are looked at.
    """

    name: str
    model: str
    dataset: str
    settings: dict
    test: bool = True

    @property
    def file(self) -> str:
        """Name of its files: another setting is another run."""
        content = [FORMAT, self.model, self.dataset, sorted(self.settings.items()), self.test]
        digest = hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()[:10]
        words = "".join(letter if letter.isalnum() else "-" for letter in self.name)
        return f"{words}-{digest}"

    @property
    def stage_1(self) -> str | None:
        """The same for runs that have the same stage 1, as far as their settings tell; None of a model without one."""
        if self.model not in our_models():
            return None
        reads = sorted((key, value) for key, value in self.settings.items() if key not in GROUP_SETTINGS)
        return json.dumps([self.model, self.dataset, reads], default=str)

    @property
    def leaves_stage_1(self) -> bool:
        """Whether others can begin after its stage 1; of global PEFT, which can only take one, no end is known."""
        return self.stage_1 is not None and self.settings.get("num_groups") != 1


def model_of(run: Run, out: Path) -> Path:
    """Where the checkpoint of a run stays, in the folder of results, if it is kept."""
    return out / "models" / f"{run.file}.pth"


def read_result(file: Path) -> dict:
    """What a finished run has left.

    Raises
    ------
    DataError
        If it cannot be read, or was written by another version.
    """
    try:
        result = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"Result {file} cannot be read ({error}). Delete it to run it again.") from error
    if not isinstance(result, dict) or result.get("format") != FORMAT:
        raise DataError(
            f"Result {file} was written by another version (format {FORMAT} is needed). Choose another --out, or "
            "delete the file to run it again."
        )
    return result
