"""PerPEFT in several of RecBole's recommenders, each against the built-in one, in one table.

    python benchmarks/backbones.py --dataset demo --backbones SASRec GRU4Rec BERT4Rec BPR LightGCN --peft LORA \
        --seeds 2020 2021 2022 --out results/backbones

For every backbone this is ``python -m recbole_perpeft compare --model=PerPEFT<Backbone> --models <Backbone> --variants
perpeft global_peft frozen`` into OUT/<Backbone>, whose tables have all metrics; OUT/table.md and table.json have the
validation metric of all that stand in OUT: backbones that need settings of their own have a command of their own. Words
such as --user_sample=2000 are settings of all runs, --for_perpeft epochs=20 of PerPEFT models. Goes on where it was
stopped.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from recbole_perpeft.commands.compare import compare
from recbole_perpeft.config.settings import settings_of
from recbole_perpeft.experiments.tables import cell, check_same_data, pipes, significance, write_texts
from recbole_perpeft.experiments.variants import METHOD
from recbole_perpeft.utils.exit_status import exit_status

VARIANTS = (METHOD, "global_peft", "frozen")
HEAD = ["backbone", "seeds", "built-in", "frozen", "global PEFT", "PerPEFT", "to global PEFT", "to built-in"]


def line(backbone: str, summary: dict) -> list[str]:
    """A line of the table, of one backbone's comparison; the best mean is bold.

    Parameters
    ----------
    summary
        As ``compare`` gives it.
    """
    columns = (backbone, "frozen", "global_peft", METHOD)
    rows = {row["variant"]: row for row in summary["rows"]}
    values = {name: row["test"][summary["metric"]] for name, row in rows.items()}
    best = max(value["mean"] for value in values.values())
    cells = [cell(values[name], values[name]["mean"] == best) if name in rows else "" for name in columns]
    pairs = {(pair["row"], pair["to"]): pair for pair in summary["pairs"]}
    against = []
    for other in ("global_peft", backbone):
        pair = pairs.get(tuple(rows[name]["row"] for name in (METHOD, other) if name in rows))
        against.append(_difference(pair, values[other]["mean"]) if pair else "")
    return [backbone, str(len(summary["rows"][0]["seeds"])), *cells, *against]


def _difference(pair: dict, of: float) -> str:
    return f"{100 * pair['mean'] / of:+.1f} %{significance(pair)}"


def markdown(lines: Sequence[Sequence[str]], metric: str) -> str:
    """The table of all backbones."""
    note = f"{metric} on the test purchases, mean ± standard deviation over seeds. (p users, p seeds)"
    return f"{pipes(HEAD, lines)}\n{note}\n"


def summaries_in(out: Path) -> dict[str, dict]:
    """What ``compare`` has written into the folders of ``out``, by backbone.

    Raises
    ------
    DataError
        If they are of different test purchases, items or masking.
    """
    check_same_data([json.loads(file.read_text(encoding="utf-8")) for file in sorted(out.glob("*/runs/*.json"))])
    tables = sorted(out.glob("*/table.json"))
    return {file.parent.name: json.loads(file.read_text(encoding="utf-8")) for file in tables}


def main() -> int:
    """The command line; gives 1 if a run failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="demo")
    parser.add_argument("--backbones", nargs="+", default=["SASRec", "GRU4Rec", "BERT4Rec", "BPR", "LightGCN"])
    parser.add_argument("--peft", default="LORA")
    parser.add_argument("--seeds", nargs="+", type=int, default=[2020, 2021, 2022])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument("--for_perpeft", nargs="*", default=[], metavar="KEY=VALUE")
    arguments, words = parser.parse_known_args()
    common, for_perpeft = settings_of(words), settings_of(arguments.for_perpeft)
    failures = []
    for backbone in arguments.backbones:
        print(f"\n== {backbone}", flush=True)
        _, failed = compare(
            arguments.dataset, arguments.out / backbone, VARIANTS, [backbone], [arguments.peft], arguments.seeds,
            f"PerPEFT{backbone}", common, for_perpeft, arguments.jobs,
        )  # fmt: skip
        failures += failed
    summaries = summaries_in(arguments.out)
    lines = [line(backbone, summary) for backbone, summary in summaries.items()]
    text = markdown(lines, next(iter(summaries.values()))["metric"]) if lines else "Nothing was finished.\n"
    write_texts(arguments.out, {"table.md": text, "table.json": json.dumps(summaries, indent=1) + "\n"})
    print("\n" + text)
    print("\n".join([*failures, f"Written: {arguments.out}/table.md, table.json"]))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
