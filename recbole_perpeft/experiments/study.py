"""Optuna's record of a search, and what its trials have read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_perpeft.config.sources import sources_hash
from recbole_perpeft.experiments.inputs import why_again

_TRIALS, _READ = "trials.log", "read.json"


def open_study(folder: Path, optuna: Any) -> Any:
    """The search in ``folder``, begun if there is none."""
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / _TRIALS)))
    return optuna.create_study(study_name="tune", direction="maximize", storage=storage, load_if_exists=True)


def trials_again(folder: Path, inputs: Mapping[str, str], keep_other_builds: bool, optuna: Any) -> list[dict]:
    """Optuna's parameters of the trials that have to be done again, whose record is put aside.

    Parameters
    ----------
    inputs
        What trials read, from :meth:`~recbole_perpeft.experiments.inputs.Inputs.of`.
    keep_other_builds
        Whether trials of other sources of this package count.
    optuna
        The module.
    """
    record, noted = folder / _TRIALS, folder / _READ
    present = {"sources": sources_hash(), "inputs": dict(inputs)}
    before = json.loads(noted.read_text()) if noted.is_file() else {}
    reason = why_again(before, inputs, sources_hash(), keep_other_builds) if record.is_file() else None
    again = []
    if reason:
        states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.RUNNING)
        again = [trial.params for trial in open_study(folder, optuna).get_trials(deepcopy=False, states=states)]
        number = sum(1 for _ in folder.glob(f"{_TRIALS}.*"))
        record.rename(folder / f"{_TRIALS}.{number + 1}")
        print(f"{len(again)} trials are done again, for {reason}.", flush=True)
    if not record.is_file():
        noted.write_text(json.dumps(present, indent=1))
    return again
