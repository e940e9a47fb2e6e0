"""The table of a comparison: Markdown, CSV and JSON."""

import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from recbole_perpeft.config.sources import sources_hash
from recbole_perpeft.experiments.significance import difference
from recbole_perpeft.experiments.variants import METHOD, Row
from recbole_perpeft.utils.errors import DataError


def check_same_data(results: Sequence[dict]) -> None:
    """Refuse results that were not, seed by seed, measured on the same test purchases, items and masking.

    Raises
    ------
    DataError
        Names what differs, and in which runs.
    """
    firsts: dict[int, dict] = {}
    for result in results:
        first = firsts.setdefault(result["settings"]["seed"], result)
        for key, value in first["data"].items():
            if result["data"][key] != value:
                raise DataError(
                    f"Runs {first['name']!r} and {result['name']!r} cannot be compared: {key} differ ({value} and "
                    f"{result['data'][key]}). Give all runs the same filters, sample of users and mask_history."
                )


def summarise(rows: Sequence[Row], results: dict[str, list[dict]], metric: str) -> dict:
    """Means, deviations and differences.

    Parameters
    ----------
    rows
        In the order of the table.
    results
        By the rows' names: their finished runs, in the order of their seeds.
    metric
        The validation metric, in which differences are tested: ``ndcg@20``.

    Returns
    -------
    dict
        ``metric``, ``rows`` (a dictionary each) and ``pairs``.
    """
    done = [row for row in rows if results.get(row.name)]
    table = [_summary_of(row, results[row.name]) for row in done]
    baselines = [line["test"][metric]["mean"] for line in table if line["variant"] != METHOD]
    for line in table:
        strongest = max(baselines, default=None)
        line["gain_per_cent"] = 100 * (line["test"][metric]["mean"] / strongest - 1) if strongest else None
    pairs = []
    for one in done:
        for other in done:
            shared = _same_seeds(results[one.name], results[other.name])
            if one != other and shared[0]:
                found = difference(*shared, metric)
                pairs.append({"row": one.name, "to": other.name, "seeds": len(shared[0]), **vars(found)})
    every = [result for row in done for result in results[row.name]]
    return {"metric": metric, "rows": table, "pairs": pairs, "ranked": ranked(every), "notes": _notes_on(every)}


def ranked(results: Sequence[dict]) -> dict[str, dict]:
    """By seed, what all rows were measured on: numbers of users and items, and a digest of the test purchases."""
    return {str(result["settings"]["seed"]): result["data"] for result in results}


def _notes_on(results: Sequence[dict]) -> list[str]:
    """What a reader of the numbers has to know about where they come from."""
    by_seed = ranked(results)
    sizes = {seed: f"{data['users']:,} users, {data['items']:,} items" for seed, data in by_seed.items()}
    if len({data["test purchases"] for data in by_seed.values()}) == 1:
        notes = [f"Ranked: {next(iter(sizes.values()))}."]
    else:
        of_seeds = "; ".join(f"seed {seed}: {size}" for seed, size in sizes.items())
        notes = [f"Seeds were measured on different test purchases, so deviations are of data as well ({of_seeds})."]
    samples = {result["settings"].get("user_sample") for result in results} - {None}
    if samples:
        sizes = " and ".join(f"{size:,}" for size in sorted(samples))
        notes.append(
            f"A sample of {sizes} users: items that none of them bought are not ranked, which makes scores higher than "
            "on all users."
        )
    if others := sum(result.get("sources") != sources_hash() for result in results):
        notes.append(f"{others} of {len(results)} runs are of another build of this package.")
    return notes


def over_seeds(values: Sequence[float]) -> dict:
    """Mean and standard deviation of one number of each seed; no deviation of a single one."""
    return {"mean": statistics.mean(values), "std": statistics.stdev(values) if len(values) > 1 else None}


def _summary_of(row: Row, results: list[dict]) -> dict:
    parameters = results[0]["parameters"]
    return {
        "row": row.name,
        "variant": row.variant,
        "peft": row.peft,
        "seeds": [result["settings"]["seed"] for result in results],
        "users": _one_or_all([result["data"]["users"] for result in results]),
        "items": _one_or_all([result["data"]["items"] for result in results]),
        "valid": over_seeds([result["valid"] for result in results]),
        "test": {name: over_seeds([result["test"][name] for result in results]) for name in results[0]["test"]},
        "trained_parameters": parameters["trained"],
        "peft_share_per_cent": 100 * parameters["peft"] / parameters["frozen"] if parameters["frozen"] else None,
        "seconds_per_epoch": statistics.median(result["seconds_per_epoch"] for result in results),
        "peak_memory_mib": max(result["peak_memory_mib"] for result in results),
        "jobs": max(result.get("jobs", 1) for result in results),
        **({"models": models} if (models := [r["model_file"] for r in results if r.get("model_file")]) else {}),
    }


def _one_or_all(numbers: list[int]) -> int | list[int]:
    return numbers[0] if len(set(numbers)) == 1 else numbers


def _same_seeds(first: list[dict], second: list[dict]) -> tuple[list[dict], list[dict]]:
    seeds = {result["settings"]["seed"]: result for result in second}
    shared = [result for result in first if result["settings"]["seed"] in seeds]
    return shared, [seeds[result["settings"]["seed"]] for result in shared]


def reference_of(row: dict, summary: dict) -> str | None:
    """Name of the row that a row is held against: the method with the same PEFT, else the one best in validation."""
    methods = [line for line in summary["rows"] if line["variant"] == METHOD and line is not row]
    same = [line for line in methods if line["peft"] == row["peft"]]
    if row["variant"] == METHOD or not methods:
        return None
    return max(same or methods, key=lambda line: line["valid"]["mean"])["row"]


def markdown(summary: dict) -> str:
    """The table for people; the best of each metric is bold."""
    rows = pd.DataFrame(summary["rows"])
    shown = pd.DataFrame({"": rows["row"], "seeds": rows["seeds"].str.len()})
    for name in rows["test"][0]:
        means = rows["test"].map(lambda test, name=name: test[name]["mean"])
        best = means == means.max()
        shown[name] = [cell(test[name], is_best) for test, is_best in zip(rows["test"], best, strict=True)]
    shown["gain"] = _formatted(rows["gain_per_cent"], "{:+.1f} %")
    shown[f"{summary['metric']} to {METHOD} (p users, p seeds)"] = [_against(line, summary) for line in summary["rows"]]
    shown["trained"] = _formatted(rows["trained_parameters"], "{:,}")
    shown["PEFT share"] = _formatted(rows["peft_share_per_cent"], "{:.2f} %")
    shown["s/epoch"] = _formatted(rows["seconds_per_epoch"], "{:.1f}")
    shown["MiB"] = _formatted(rows["peak_memory_mib"], "{:.0f}")
    notes = ["Mean ± standard deviation over seeds, on the test purchases. Gain: to the best row that is no "
             f"{METHOD}. p: two-sided paired t-tests, over users (of their means) and over seeds."]  # fmt: skip
    if (shown["seeds"] < 2).any():
        notes.append("One seed: no significance is claimed.")
    notes += summary["notes"]
    if (jobs := rows["jobs"].max()) > 1:
        notes.append(f"s/epoch: with up to {jobs} runs side by side.")
    if kept := [f"{line['row']}: {', '.join(line['models'])}" for line in summary["rows"] if line.get("models")]:
        notes.append(f"Models, seed by seed: {'; '.join(kept)}.")
    return pipes([*shown], shown.astype(str).to_numpy()) + "\n" + " ".join(notes) + "\n"


def _formatted(numbers: pd.Series, form: str) -> pd.Series:
    """Numbers as text; nothing where there is none."""
    return numbers.map(form.format, na_action="ignore").fillna("")


def pipes(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "".join("| " + " | ".join(cells) + " |\n" for cells in (head, ["---"] * len(head), *lines))


def cell(value: dict, is_best: bool) -> str:
    """``mean ± std``, bold if it is the best; without deviation for a single seed."""
    text = f"{value['mean']:.4f}" + (f" ± {value['std']:.4f}" if value["std"] is not None else "")
    return f"**{text}**" if is_best else text


def _against(line: dict, summary: dict) -> str:
    reference = reference_of(line, summary)
    pair = next((p for p in summary["pairs"] if (p["row"], p["to"]) == (line["row"], reference)), None)
    if pair is None:
        return ""
    return f"{pair['mean']:+.4f}{significance(pair)}"


def significance(pair: dict) -> str:
    """Both p of one of the summary's ``pairs``, over users and over seeds, as they are shown; nothing for one seed."""
    if pair["p_users"] is None:
        return ""
    return f" ({_p(pair['p_users'])}, {_p(pair['p_seeds'])})"


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def as_csv(summary: dict) -> str:
    """One line per row, means and deviations in columns of their own."""
    rows = pd.json_normalize(summary["rows"], sep=" ")
    rows["seeds"] = rows["seeds"].str.len()
    scores = [name for name in rows if name.startswith("test ")]
    costs = ["trained_parameters", "peft_share_per_cent", "seconds_per_epoch", "peak_memory_mib"]
    columns = ["row", "variant", "peft", "seeds", "users", "items", "valid mean", *scores, "gain_per_cent", *costs]
    return rows[columns].rename(columns=lambda name: name.removeprefix("test ")).to_csv(index=False)


def write_table(summary: dict, out: Path) -> None:
    """``table.md``, ``table.csv`` and ``table.json`` in ``out``; a reader sees the old ones or the new."""
    write_texts(out, {
        "table.md": markdown(summary), "table.csv": as_csv(summary), "table.json": json.dumps(summary, indent=1) + "\n",
    })  # fmt: skip


def write_texts(out: Path, texts: dict[str, str]) -> None:
    """Files in ``out`` by their names; a reader sees the old ones or the new."""
    for name, text in texts.items():
        partial = out / f"{name}.partial"
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, out / name)
