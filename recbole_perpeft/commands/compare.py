"""``python -m recbole_perpeft compare``: variants and RecBole's models on one split, in one table."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from recbole_perpeft.config import Config
from recbole_perpeft.config.checks import check_seed
from recbole_perpeft.config.settings import merge_settings, read_settings_files, settings_of
from recbole_perpeft.data.preparation import check_folder
from recbole_perpeft.experiments.chart import write_chart
from recbole_perpeft.experiments.output_folder import alone, output_folder
from recbole_perpeft.experiments.places import open_place
from recbole_perpeft.experiments.run import model_of
from recbole_perpeft.experiments.scheduler import do_runs
from recbole_perpeft.experiments.tables import check_same_data, markdown, summarise, write_table
from recbole_perpeft.experiments.variants import METHOD, check_same_protocol, known_variants, make_rows
from recbole_perpeft.utils.errors import SettingError
from recbole_perpeft.utils.files import listed_files

DESCRIPTION = f"""Train variants of PerPEFT and RecBole's own models on the same split, with the same masking, and
compare them.

  python -m recbole_perpeft compare --dataset demo --variants {METHOD} global_peft frozen without_multimodal \\
    --models "SASRec:loss_type=BPR" --peft LORA IA3 --seeds 2020 2021 2022 --out results/demo --learning_rate=0.001

Words such as --learning_rate=0.001 are settings of all rows. Runs are done one after another (--jobs 2: two side by
side), each in a process of its own; finished ones stand in OUT/runs and are not repeated, and a PerPEFT model's that
was stopped goes on from its last validation: so the same command goes on where it was stopped, and one with more rows
or seeds does what is new. The same command given several times at once, on one machine or on many that share OUT,
shares the runs out. What a run has read counts by content: where the data set's files, pictures or the encoder
are others now, it is named and done again, and so is one of another build of this package (--keep_other_builds takes
it as it is). Rows that differ in their groups alone have the same stage 1, which is trained once (OUT/stage_1), and the
same row with one group goes on from it. Tables (Markdown, CSV, JSON) and a chart are written to OUT."""


def compare(
    dataset: str,
    out: str | Path,
    variants: Sequence[str] = (METHOD, "global_peft"),
    models: Sequence[str] = (),
    pefts: Sequence[str] = (),
    seeds: Sequence[int] = (2020, 2021, 2022),
    model: str = "PerPEFTSASRec",
    settings: dict | None = None,
    for_perpeft: dict | None = None,
    jobs: int = 1,
    keep_other_builds: bool = False,
    keep_models: bool = False,
    ray: str | None = None,
) -> tuple[dict | None, list[str]]:
    """Do all runs that are not finished, and write the table.

    Parameters
    ----------
    dataset
        Name of the data set.
    out
        Folder of the results.
    variants, models, pefts, model, for_perpeft
        See :func:`~recbole_perpeft.experiments.variants.make_rows`.
    seeds
        Each row is run with each.
    settings
        Settings of all rows.
    jobs
        How many runs are done side by side.
    keep_other_builds
        Whether finished runs of other sources of this package stand in the table; else they are done again.
    keep_models
        Whether each run's checkpoint stays in ``models``; a finished run that left none is done again.
    ray
        Address of a Ray cluster that does the runs, or ``auto``; None: this machine does.

    Returns
    -------
    tuple
        The summary as in ``table.json`` (None if no run was finished), and a line for each run that failed.

    Raises
    ------
    SettingError
        On what cannot be run, or a cluster that cannot do it.
    DataError
        If there is no such data set, runs cannot be compared, or a result was written by another version.
    """
    if len(set(seeds)) < len(seeds):
        raise SettingError(f"--seeds: {list(seeds)} has one twice. Keep one.")
    for seed in seeds:
        check_seed("--seeds", seed)
    rows = make_rows(model, dataset, variants, models, pefts, settings or {}, for_perpeft or {})
    if not rows:
        raise SettingError("There is nothing to compare: give --variants or --models.")
    check_same_protocol(rows, dataset)
    config = Config(rows[0].model, dataset, config_dict=rows[0].settings)
    check_folder(config)
    metric = config["valid_metric"].lower()
    with open_place(jobs, ray) as place, output_folder(Path(out)) as folder:
        print(f"Each run's log, as it goes: {folder}/logs")
        runs = [run for seed in seeds for row in rows for run in row.runs(dataset, [seed])]
        kept = {"keep_other_builds": keep_other_builds, "keep_models": keep_models}
        results, failures = do_runs(runs, folder, place=place, **kept)
        finished = {row.name: [] for row in rows}
        for row, run, result in zip([row for _ in seeds for row in rows], runs, results, strict=True):
            if result:
                model = model_of(run, folder).relative_to(folder)
                finished[row.name].append({**result, "model_file": str(model) if keep_models else None})
        every = [result for of_row in finished.values() for result in of_row]
        if not every:
            return None, failures
        check_same_data(every)
        summary = summarise(rows, finished, metric)
        with alone(folder):
            write_table(summary, folder)
            reason = write_chart(summary, folder / "chart.png")
    print("\n" + markdown(summary))
    print(f"Written: {folder}/table.md, table.csv, table.json" + ("" if reason else ", chart.png"))
    if reason:
        print(f"No chart: {reason}")
    return summary, failures


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Words that all commands of many runs have."""
    parser.add_argument("--dataset", "-d", default="demo", help="a folder of atomic files below data_path")
    parser.add_argument("--config_files", help="YAML files with settings of all runs, separated by spaces")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side; they share the cores, or the GPU")
    parser.add_argument("--ray", metavar="ADDRESS",
                        help="a Ray cluster that does the runs: HOST:PORT of its head, or auto")  # fmt: skip
    parser.add_argument("--keep_other_builds", action="store_true",
                        help="take what other builds of this package have finished; else it is done again")  # fmt: skip


def common_settings(config_files: str | None, words: Sequence[str]) -> dict:
    """Settings of YAML files and of ``--key=value`` words, which go before them."""
    return merge_settings(read_settings_files(listed_files(config_files)), settings_of(words))


def main(arguments: Sequence[str]) -> int:
    """The command line; gives 1 if a run failed."""
    parser = argparse.ArgumentParser(
        prog="python -m recbole_perpeft compare", description=DESCRIPTION, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_common_arguments(parser)
    parser.add_argument("--model", "-m", default="PerPEFTSASRec", help="PerPEFT model of the variants")
    parser.add_argument("--variants", nargs="*", default=[METHOD, "global_peft"], metavar="VARIANT",
                        help=f"of {', '.join(known_variants())}; or YAML files")  # fmt: skip
    parser.add_argument("--models", nargs="*", default=[], metavar="MODEL",
                        help="RecBole's; with own settings: SASRec:loss_type=BPR,epochs=50")  # fmt: skip
    parser.add_argument(
        "--peft",
        nargs="*",
        default=[],
        metavar="METHOD",
        help="PEFT methods of the variants that have a module (default: that of --peft_type, or LORA)",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[2020, 2021, 2022])
    parser.add_argument("--keep_models", action="store_true",
                        help="keep each run's checkpoint in OUT/models; the table names them")  # fmt: skip
    parser.add_argument("--for_perpeft", nargs="*", default=[], metavar="KEY=VALUE",
                        help="settings of PerPEFT rows only; a variant's own go before them")  # fmt: skip
    known, words = parser.parse_known_args(arguments)
    _, failures = compare(
        known.dataset, known.out, known.variants, known.models, known.peft, known.seeds, known.model,
        common_settings(known.config_files, words), settings_of(known.for_perpeft), known.jobs,
        known.keep_other_builds, known.keep_models, known.ray,
    )  # fmt: skip
    for failure in failures:
        print(failure)
    return 1 if failures else 0
