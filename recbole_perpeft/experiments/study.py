"""Optuna's record of a search, which several processes may share, and what its trials have read."""

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recbole_perpeft.config.sources import sources_hash
from recbole_perpeft.experiments.inputs import why_again
from recbole_perpeft.utils.errors import SettingError

TRIALS, _READ = "trials.log", "read.json"
TRIES = 3  # of a trial whose process dies
_BEAT = 30.0  # seconds from one sign of life of a running trial to the next
_SILENCE = 120.0  # seconds without one after which its process counts as dead
_OPENINGS, _PATIENCE = 3, 60  # of a database, and seconds in which it may be busy
_LOOK_AGAIN = 1.0  # seconds, where other processes do what is left


def open_study(storage: str | Path, name: str, optuna: Any) -> tuple[Any, bool]:
    """A search, and whether it begins now.

    Parameters
    ----------
    storage
        A journal file, or a database's URL, which has ``://`` in it.
    name
        Of the search, in a storage of several.
    optuna
        The module.

    Raises
    ------
    SettingError
        If the storage cannot be opened.
    """
    try:
        opened = _database(str(storage), optuna) if "://" in str(storage) else _journal(Path(storage), optuna)
        try:
            return optuna.create_study(study_name=name, direction="maximize", storage=opened), True
        except optuna.exceptions.DuplicatedStudyError:
            return optuna.load_study(study_name=name, storage=opened), False
    except Exception as error:  # noqa: BLE001 - of whichever library the database needs
        raise SettingError(
            f"--storage: {storage} cannot be opened ({str(error).strip().splitlines()[0]}). Give a journal file in a "
            "folder that exists, or a URL such as sqlite:///FILE."
        ) from error


def _journal(file: Path, optuna: Any) -> Any:
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(file)))


def _database(url: str, optuna: Any) -> Any:
    from sqlalchemy.exc import DBAPIError  # which Optuna has brought

    options = {"connect_args": {"timeout": _PATIENCE}} if url.startswith("sqlite:") else {}
    for _ in range(_OPENINGS - 1):
        try:
            return optuna.storages.RDBStorage(url, engine_kwargs=options)
        except DBAPIError:  # of two processes that make its tables at the same time, one fails
            time.sleep(_LOOK_AGAIN)
    return optuna.storages.RDBStorage(url, engine_kwargs=options)


def check_same_search(study: Any, begins: bool, search: Mapping, keep_other_builds: bool) -> None:
    """Let a shared search note what it is of, and refuse one that is of something else.

    Parameters
    ----------
    search
        ``inputs`` and ``sources``, as :func:`~recbole_perpeft.experiments.inputs.why_again` compares them, and more.
    keep_other_builds
        Whether other sources of this package are the same search.

    Raises
    ------
    SettingError
        Names the search and what differs.
    """
    search = json.loads(json.dumps(search, default=str))
    if begins:
        study.set_user_attr("search", search)
        return
    before = study.user_attrs.get("search", search)
    names = [f"other {key}" for key in search if key not in ("inputs", "sources") and search[key] != before.get(key)]
    again = why_again(before, search["inputs"], search["sources"], keep_other_builds)
    if reasons := names + ([again] if again else []):
        raise SettingError(
            f"--study: {study.study_name!r} in that storage is another search ({', '.join(reasons)}). Choose another."
        )


def trials_again(
    folder: Path, name: str, inputs: Mapping[str, str], keep_other_builds: bool, optuna: Any
) -> list[dict]:
    """Optuna's parameters of the trials that have to be done again, whose record in ``folder`` is put aside.

    Parameters
    ----------
    name
        Of the search.
    inputs
        What trials read, from :meth:`~recbole_perpeft.experiments.inputs.Inputs.of`.
    keep_other_builds
        Whether trials of other sources of this package count.
    optuna
        The module.
    """
    record, noted = folder / TRIALS, folder / _READ
    present = {"sources": sources_hash(), "inputs": dict(inputs)}
    before = json.loads(noted.read_text()) if noted.is_file() else {}
    reason = why_again(before, inputs, sources_hash(), keep_other_builds) if record.is_file() else None
    again = []
    if reason:
        states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.RUNNING)
        study, _ = open_study(record, name, optuna)
        again = [trial.params for trial in study.get_trials(deepcopy=False, states=states)]
        number = sum(1 for _ in folder.glob(f"{TRIALS}.*"))
        record.rename(folder / f"{TRIALS}.{number + 1}")
        print(f"{len(again)} trials are done again, for {reason}.", flush=True)
    if not record.is_file():
        noted.write_text(json.dumps(present, indent=1))
    return again


class SharedTrials:
    """The trials of a search, each of which one process does; those of a dead process come again.

    Parameters
    ----------
    study
        From :func:`open_study`.
    n_trials
        How many there are to be in the end.
    optuna
        The module.
    """

    def __init__(self, study: Any, n_trials: int, optuna: Any):
        self._study, self._n_trials, self._state = study, n_trials, optuna.trial.TrialState
        self._lost = optuna.exceptions.OptunaError, ValueError  # of a trial that another process has ended
        self._named: set[int] = set()
        self._beats: dict[int, tuple[Any, float]] = {}  # of others' trials: the last one, and when it was first seen

    def n_over(self) -> int:
        """Trials that are over, failed runs included."""
        return len(self._of(self._state.COMPLETE, self._state.PRUNED))

    def ask(self) -> Any | None:
        """The next trial, for this process alone; None if others do all that is left."""
        self._take_back()
        taken = self._state.COMPLETE, self._state.PRUNED, self._state.RUNNING
        if len(self._of(*taken)) >= self._n_trials:
            return None
        trial = self._study.ask()
        if sum(other.number < trial.number for other in self._of(*taken)) >= self._n_trials:  # asked at the same time
            self._study.tell(trial, state=self._state.FAIL)
            return None
        return trial

    def wait(self) -> None:
        """Let others go on for a moment; each trial that is waited for is named once."""
        for trial in self._of(self._state.RUNNING):
            if trial.number not in self._named:
                print(f"trial {first_number(trial) + 1} ... done by another process", flush=True)
                self._named.add(trial.number)
        time.sleep(_LOOK_AGAIN)

    @contextmanager
    def doing(self, trials: Sequence[Any]) -> Iterator[None]:
        """Give signs of life for ``trials``; where this is interrupted, they come again."""
        over = threading.Event()
        thread = threading.Thread(target=self._beat, args=(trials, over), daemon=True)
        thread.start()
        try:
            yield
        except BaseException:
            for trial in trials:
                self._give_again(trial, tries=_tries(trial))
            raise
        finally:
            over.set()
            thread.join()

    def tell(self, trial: Any, score: float | None) -> None:
        """Note a trial's score; None if its run failed."""
        state = self._state.PRUNED if score is None else self._state.COMPLETE
        self._study.tell(trial, score, state=state, skip_if_finished=True)

    def finished(self) -> list[dict]:
        """``valid`` and what was chosen, of each trial with a score, best first."""
        done = self._of(self._state.COMPLETE)
        return sorted(
            ({"valid": trial.value, **trial.user_attrs["settings"]} for trial in done), key=lambda line: -line["valid"]
        )

    def _of(self, *states: Any) -> list[Any]:
        return self._study.get_trials(deepcopy=False, states=states)

    def _beat(self, trials: Sequence[Any], over: threading.Event) -> None:
        beat = 0
        while not over.wait(_BEAT):
            beat += 1
            for trial in trials:
                try:
                    trial.set_user_attr("beat", beat)
                except Exception:  # noqa: BLE001 - a database that does not answer now may do so at the next beat
                    continue

    def _take_back(self) -> None:
        """Let trials whose processes are silent be done by others."""
        for trial in self._of(self._state.RUNNING):
            beat = trial.user_attrs.get("beat")
            seen, since = self._beats.setdefault(trial.number, (beat, time.monotonic()))
            if beat != seen:
                self._beats[trial.number] = beat, time.monotonic()
            elif time.monotonic() - since > _SILENCE and self._give_again(trial, tries := _tries(trial) + 1):
                again = "is done again" if tries <= TRIES else f"counts as failed, after {TRIES} times"
                print(f"trial {first_number(trial) + 1}: its process died, so it {again}", flush=True)

    def _give_again(self, trial: Any, tries: int) -> bool:
        """Let anyone do a trial once more, if it may be tried so often; False if another process has ended it."""
        try:
            self._study.tell(trial.number, state=self._state.FAIL if tries <= TRIES else self._state.PRUNED)
        except self._lost:
            return False
        if tries <= TRIES:
            self._study.enqueue_trial(trial.params, user_attrs={"first": first_number(trial), "tries": tries})
        return True


def first_number(trial: Any) -> int:
    """Number of a trial, or of the one that it repeats because its process died."""
    return trial.user_attrs.get("first", trial.number)


def _tries(trial: Any) -> int:
    return trial.user_attrs.get("tries", 1)
