"""``python -m recbole_perpeft tune``: search of settings by their validation score."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from recbole_perpeft.commands.compare import add_common_arguments, common_settings
from recbole_perpeft.config import Config
from recbole_perpeft.config.checks import check_seed
from recbole_perpeft.config.identity import PLACES
from recbole_perpeft.config.registry import is_perpeft
from recbole_perpeft.config.setting_effects import unread
from recbole_perpeft.config.settings import YAML_LOADER, known_settings
from recbole_perpeft.config.sources import sources_hash
from recbole_perpeft.config.table import check_known
from recbole_perpeft.data.preparation import check_folder
from recbole_perpeft.experiments.inputs import Inputs
from recbole_perpeft.experiments.output_folder import alone, output_folder
from recbole_perpeft.experiments.places import open_place
from recbole_perpeft.experiments.run import Run
from recbole_perpeft.experiments.scheduler import do_runs
from recbole_perpeft.experiments.study import (
    TRIALS,
    SharedTrials,
    check_same_search,
    first_number,
    open_study,
    trials_again,
)  # fmt: skip
from recbole_perpeft.experiments.tables import pipes, write_texts
from recbole_perpeft.experiments.variants import check_starts_anew
from recbole_perpeft.trainer.stage_1_cache import GROUP_SETTINGS
from recbole_perpeft.utils.errors import SettingError

DESCRIPTION = """Search settings by the validation score; the test purchases are never looked at.

  python -m recbole_perpeft tune --dataset demo --space space.yaml --trials 20 --out results/tune --epochs=20

space.yaml has a line for each setting that is searched:

  learning_rate: {loguniform: [0.0003, 0.01]}
  content_weight: {uniform: [0.1, 1.0]}
  users_per_batch: {int: [16, 128]}
  num_groups: {choice: [1, 4, 8]}

The first trial has the settings as they are (the defaults, or what is typed after them), as far as they lie within what
is searched; then Optuna's TPE proposes them, seeded. Trials are done one after another (--jobs 2: two are proposed and
done side by side), each in a process of its own; the same command goes on where it was stopped, and one with more
--trials continues the search. Given several times at once, it shares the trials out: with the same OUT, or from
machines without a common folder with the same --storage. Where the files that
trials have read are others now, or the package's sources (unless --keep_other_builds), they are done again. Where only
settings of groups are searched, stage 1 is trained once. OUT/table.md lists the trials, best first, and OUT/best.yaml
can be given to --config_files."""

_KINDS = ("choice", "uniform", "loguniform", "int")


def read_space(file: str | Path) -> dict[str, tuple[str, list]]:
    """The searched settings: name to kind and values.

    Raises
    ------
    SettingError
        If the file cannot be read, or names a setting or kind that does not exist, or values that make no range.
    """
    try:
        space = yaml.load(Path(file).read_text(encoding="utf-8"), Loader=YAML_LOADER)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingError(f"--space: {file} cannot be read: {error}") from error
    if not isinstance(space, Mapping) or not space:
        raise SettingError(f"--space: {file} must hold lines such as learning_rate: {{loguniform: [0.0003, 0.01]}}.")
    check_known(space, known_settings())
    for key, entry in space.items():
        if not isinstance(entry, Mapping) or len(entry) != 1 or next(iter(entry)) not in _KINDS:
            raise SettingError(f"--space: {key}: {entry!r} is no search. Write one of {', '.join(_KINDS)}: [values].")
        ((kind, values),) = entry.items()
        if not isinstance(values, list) or not values or (kind != "choice" and not _is_range(values, kind)):
            raise SettingError(f"--space: {key}: {kind}: {values!r} is not possible. Write [lowest, highest].")
    return {key: next(iter(entry.items())) for key, entry in space.items()}


def _is_range(values: list, kind: str) -> bool:
    numbers = int if kind == "int" else (int, float)
    if len(values) != 2 or not all(isinstance(v, numbers) and not isinstance(v, bool) for v in values):
        return False
    return values[0] < values[1] and (kind != "loguniform" or values[0] > 0)


def tune(
    dataset: str,
    space: Mapping[str, tuple[str, list]],
    out: str | Path,
    trials: int,
    model: str = "PerPEFTSASRec",
    settings: dict | None = None,
    seed: int = 2020,
    keep_other_builds: bool = False,
    jobs: int = 1,
    ray: str | None = None,
    storage: str | None = None,
    study_name: str = "tune",
) -> tuple[list[dict], list[str]]:
    """Do what is left of ``trials`` trials; other processes may do so at the same time.

    Parameters
    ----------
    space
        From :func:`read_space`.
    trials
        In all, those of earlier calls included.
    settings
        Settings of all trials; of those that are searched, the first trial's.
    seed
        Of the search, and of each run unless ``settings`` has one.
    keep_other_builds
        Whether trials of other sources of this package count; else they are done again.
    jobs
        How many trials are proposed together and done side by side.
    ray
        Address of a Ray cluster that does the trials, or ``auto``; None: this machine does.
    storage, study_name
        Optuna's record of the search, see :func:`~recbole_perpeft.experiments.study.open_study`; None: in ``out``.

    Returns
    -------
    tuple
        A dictionary for each finished trial (``valid`` and the searched settings), best first; and a line for each
        that failed here.

    Raises
    ------
    SettingError
        If Optuna is missing, or the folder or the storage holds another search, or cannot be opened.
    DataError
        If there is no such data set.
    """
    optuna = _optuna()
    check_seed("--search_seed", seed)
    settings = {"seed": seed, **(settings or {})}
    check_starts_anew(settings)
    if "warm_start" in space:
        raise SettingError("--space: warm_start cannot be searched: trials start alike, from nothing. Leave it out.")
    config = Config(model, dataset, config_dict=settings)
    check_folder(config)
    unused = unread(config.model_class) if is_perpeft(config.model_class) else {}
    for key in space.keys() & unused.keys():
        raise SettingError(f"--space: {key} changes nothing on {model}: {unused[key]}. Leave it out.")
    failures, inputs = [], Inputs()
    search = {"dataset": dataset, "model": model, "space": space, "settings": settings}
    with open_place(jobs, ray) as place, output_folder(Path(out)) as folder:
        print(f"Each trial's log, as it goes: {folder}/logs")
        read = inputs.of(model, dataset, settings)
        with alone(folder):
            _check_folder(folder, search)
            again = [] if storage else trials_again(folder, study_name, read, keep_other_builds, optuna)
            study, begins = open_study(storage or folder / TRIALS, study_name, optuna)
            if storage:
                search["settings"] = {key: value for key, value in settings.items() if key not in PLACES}
                search |= {"inputs": read, "sources": sources_hash()}
                check_same_search(study, begins, search, keep_other_builds)
            for parameters in (again or [_start(config, space)]) if begins else []:
                study.enqueue_trial(parameters)
        shared = SharedTrials(study, trials, optuna)
        while shared.n_over() < trials:
            asked = []
            while len(asked) < jobs and (trial := shared.ask()):
                study.sampler = optuna.samplers.TPESampler(seed=(seed + trial.number) % 2**32, n_startup_trials=5)
                chosen = {key: _suggest(trial, key, kind, values) for key, (kind, values) in space.items()}
                trial.set_user_attr("settings", chosen)
                asked.append((trial, _run_of(trial, chosen, model, dataset, settings)))
            if not asked:
                shared.wait()
                continue
            with shared.doing([trial for trial, _ in asked]):
                # no trial has the stage 1 of another where what it reads is searched
                how = {"share_stage_1": space.keys() <= GROUP_SETTINGS, "keep_other_builds": keep_other_builds}
                results, failed = do_runs([run for _, run in asked], folder, place=place, inputs=inputs, **how)
            failures += failed
            for (trial, _), result in zip(asked, results, strict=True):
                shared.tell(trial, result and result["valid"])
        found = shared.finished()
        if found:
            with alone(folder):
                _write(folder, found)
    return found, failures


def _run_of(trial: Any, chosen: dict, model: str, dataset: str, settings: dict) -> Run:
    said = ", ".join(f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
                     for key, value in chosen.items())  # fmt: skip
    return Run(f"trial {first_number(trial) + 1}: {said}", model, dataset, {**settings, **chosen}, test=False)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise SettingError('tune needs Optuna: pip install "recbole-perpeft[tune]"') from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _start(config: Config, space: Mapping[str, tuple[str, list]]) -> dict:
    """Optuna's parameters of the settings as they are, of those that lie within the space."""
    start = {}
    for key, (kind, values) in space.items():
        value = config[key]
        if kind == "choice" and value in values:
            start[key] = values.index(value)
        elif kind != "choice" and isinstance(value, int | float) and values[0] <= value <= values[1]:
            start[key] = value
    return start


def _suggest(trial: Any, key: str, kind: str, values: list) -> Any:
    if kind == "choice":  # by number, for Optuna keeps no lists or mappings
        return values[trial.suggest_categorical(key, range(len(values)))]
    if kind == "int":
        return trial.suggest_int(key, *values)
    return trial.suggest_float(key, *map(float, values), log=kind == "loguniform")


def _check_folder(folder: Path, search: dict) -> None:
    """Note what a folder's search is of, and refuse one of something else, in whatever order that was written."""
    now = json.loads(json.dumps(search, default=str))
    if not (file := folder / "search.json").is_file():
        write_texts(folder, {file.name: json.dumps(now, indent=1)})
        return
    then, others = json.loads(file.read_text()), []
    for part in ("dataset", "model"):
        if then[part] != now[part]:
            others.append(f"{part} {then[part]}")
    for part in ("space", "settings"):
        keys = {**then[part], **now[part]}.keys() - PLACES
        if names := sorted(key for key in keys if then[part].get(key) != now[part].get(key)):
            others.append(f"other {part} ({', '.join(names)})")
    if others:
        raise SettingError(f"--out: {folder} holds a search with {' and '.join(others)}. Choose another folder.")


def _write(folder: Path, found: list[dict]) -> None:
    keys = list(found[0])
    lines = [[_cell(line[key]) for key in keys] for line in found]
    best = {key: value for key, value in found[0].items() if key != "valid"}
    write_texts(folder, {"table.md": pipes(keys, lines), "best.yaml": yaml.safe_dump(best, sort_keys=False)})


def _cell(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def main(arguments: Sequence[str]) -> int:
    """The command line; gives 1 if a run failed."""
    parser = argparse.ArgumentParser(
        prog="python -m recbole_perpeft tune", description=DESCRIPTION, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_common_arguments(parser)
    parser.add_argument("--model", "-m", default="PerPEFTSASRec", help="a PerPEFT model or any of RecBole's")
    parser.add_argument("--space", required=True, help="YAML file of what is searched")
    parser.add_argument("--trials", type=int, default=20, help="in all, those of earlier calls included")
    parser.add_argument("--storage", help="Optuna's record: a journal file, or a URL such as sqlite:///FILE; in OUT")
    parser.add_argument("--study", default="tune", help="name of the search, in a storage of several")
    parser.add_argument("--search_seed", type=int, default=2020, help="seed of the search")
    known, words = parser.parse_known_args(arguments)
    found, failures = tune(
        known.dataset, read_space(known.space), known.out, known.trials, known.model,
        common_settings(known.config_files, words), known.search_seed, known.keep_other_builds,
        known.jobs, known.ray, known.storage, known.study,
    )  # fmt: skip
    if found:
        print(f"\n{(known.out / 'table.md').read_text()}\nWritten: {known.out}/table.md, best.yaml")
        print(f"Test the best: python run_recbole_perpeft.py --model={known.model} --dataset={known.dataset} "
              f"--config_files={known.out / 'best.yaml'} {' '.join(words)}")  # fmt: skip
    for failure in failures:
        print(failure)
    return 1 if failures else 0
