"""PerPEFT in several of RecBole's recommenders, each against the built-in one, in one table.

    python benchmarks/backbones.py --dataset demo --backbones SASRec GRU4Rec BERT4Rec BPR LightGCN --peft LORA \
        --seeds 2020 2021 2022 --out results/backbones

For every backbone this is ``python -m recbole_perpeft compare --model=PerPEFT<Backbone> --models <Backbone> --variants
perpeft global_peft frozen`` into OUT/<Backbone>, whose tables have all metrics; OUT/table.md and table.json have the
validation metric of all. Words such as --user_sample=2000 are settings of all runs, --for_perpeft epochs=20 of PerPEFT
models. Goes on where it was stopped.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from recbole_perpeft.commands.compare import compare
from recbole_perpeft.commands.rows import METHOD, settings_of
from recbole_perpeft.commands.table import cell, p_value

VARIANTS = (METHOD, "global_peft", "frozen")
HEAD = ["backbone", "seeds", "built-in", "frozen", "global PEFT", "PerPEFT", "to global PEFT", "to built-in"]


def line(backbone: str, summary: dict) -> list[str]:
    """A line of the table, of one backbone's comparison; the best mean is bold.

    Parameters
    ----------
    summary
        As ``compare`` gives it.
    """
    metric = summary["metric"]
    rows = {row["variant"]: row for row in summary["rows"]}
    order = [name for name in (backbone, "frozen", "global_peft", METHOD) if name in rows]
    means = {name: rows[name]["test"][metric] for name in order}
    best = max(order, key=lambda name: means[name]["mean"])
    cells = {name: cell(means[name], name == best) for name in order}
    pairs = {(pair["row"], pair["to"]): pair for pair in summary["pairs"]}
    against = []
    for other in ("global_peft", backbone):
        pair = pairs.get((rows[METHOD]["row"], rows[other]["row"])) if METHOD in rows and other in rows else None
        against.append(_difference(pair, means[other]["mean"]) if pair else "")
    seeds = len(summary["rows"][0]["seeds"])
    return [
        backbone,
        str(seeds),
        *(cells.get(name, "") for name in (backbone, "frozen", "global_peft", METHOD)),
        *against,
    ]


def _difference(pair: dict, of: float) -> str:
    ps = [pair["p_users"], pair["p_seeds"]]
    shown = "" if None in ps else f" ({', '.join(map(p_value, ps))})"
    return f"{100 * pair['mean'] / of:+.1f} %{shown}"


def markdown(lines: Sequence[Sequence[str]], metric: str) -> str:
    """The table of all backbones."""
    table = [HEAD, ["---"] * len(HEAD), *lines]
    text = "\n".join("| " + " | ".join(cells) + " |" for cells in table)
    return f"{text}\n\n{metric} on the test purchases, mean ± standard deviation over seeds. (p users, p seeds)\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="demo")
    parser.add_argument("--backbones", nargs="+", default=["SASRec", "GRU4Rec", "BERT4Rec", "BPR", "LightGCN"])
    parser.add_argument("--peft", default="LORA")
    parser.add_argument("--seeds", nargs="+", type=int, default=[2020, 2021, 2022])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--for_perpeft", nargs="*", default=[], metavar="KEY=VALUE")
    arguments, words = parser.parse_known_args()
    common, for_perpeft = settings_of(words), settings_of(arguments.for_perpeft)
    summaries, failures = {}, []
    for backbone in arguments.backbones:
        print(f"\n== {backbone}", flush=True)
        summary, failed = compare(
            arguments.dataset, arguments.out / backbone, VARIANTS, [backbone], [arguments.peft], arguments.seeds,
            f"PerPEFT{backbone}", common, for_perpeft,
        )  # fmt: skip
        failures += failed
        if summary:
            summaries[backbone] = summary
    lines = [line(backbone, summary) for backbone, summary in summaries.items()]
    text = markdown(lines, next(iter(summaries.values()))["metric"]) if lines else "Nothing was finished.\n"
    (arguments.out / "table.md").write_text(text, encoding="utf-8")
    (arguments.out / "table.json").write_text(json.dumps(summaries, indent=1) + "\n", encoding="utf-8")
    print("\n" + text)
    print("\n".join([*failures, f"Written: {arguments.out}/table.md, table.json"]))


if __name__ == "__main__":
    main()
