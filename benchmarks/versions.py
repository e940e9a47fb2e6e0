"""The main job of two commits in turn: how many times as fast is this one, alone and beside other work?

    python benchmarks/versions.py --before 76a26f4 --seeds 2020 2021 2022 2023 2024 --json versions.json
    python benchmarks/versions.py --before 76a26f4 --beside --json beside.json
    python benchmarks/versions.py --before 76a26f4 --shop 600 -- --epochs=3 --global_epochs=1

A turn for each seed runs ``run_recbole_perpeft.py`` from a checkout of the commit before and from this working tree,
each in a folder of its own with nothing kept from earlier runs, and swaps who is first. The file has all turns so far,
and a command that finds there turns of the same commits and words does the seeds that are left. What a setting is
called may have changed in between, so further words (``-- --model=PerPEFTSASRec``) are given to both and must be known
to both; the default is no word at all, which is the demo. ``--beside`` runs this working tree also beside a process
that multiplies matrices with two threads. ``--shop`` takes a synthetic shop of so many items and users in place of the
demo, with a CLIP in the configuration of ViT-B/32 and random weights; it is the training of the last epoch that counts
there.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for benchmarks, which is not installed

import torch  # noqa: E402
from scipy.stats import ttest_rel  # noqa: E402

from benchmarks.machine import describe  # noqa: E402
from benchmarks.ratios import in_words, ratios  # noqa: E402
from recbole_perpeft.experiments.tables import pipes  # noqa: E402
from recbole_perpeft.utils.files import replacing  # noqa: E402

BUSY = "import torch; torch.set_num_threads(2); a = torch.randn(1500, 1500)\nwhile True: a @ a"
EPOCH = re.compile(r"epoch \d+ training.*?time.*?: ([0-9.]+)s")
SCORE = re.compile(r"test result.*?'ndcg@20': ([0-9.]+)")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, help="a commit of this repository")
    parser.add_argument("--seeds", type=int, nargs="+", default=[2020], help="a turn for each")
    parser.add_argument("--beside", action="store_true", help="this tree also beside a process with two threads")
    parser.add_argument("--shop", type=int, help="items and users of a synthetic shop")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("words", nargs="*", help="settings of the run, after --")
    return parser.parse_args(arguments)


def _shop(folder: Path, number: int) -> list[str]:
    from benchmarks.synthetic import NAME, make_shop

    shop = make_shop(folder, "vit-b-32", number, number, min(number, 500), seed=2026)
    return [f"--dataset={NAME}", f"--data_path={folder}", f"--encoder={shop.encoder}", "--num_groups=8"]


def run(checkout: Path, words: list[str]) -> dict:
    """Seconds, processor seconds, most memory and test score of one run."""
    with tempfile.TemporaryDirectory() as folder:
        places = [f"--content_cache={folder}/content", f"--checkpoint_dir={folder}/saved", "--show_progress=False"]
        command = [sys.executable, str(checkout / "run_recbole_perpeft.py"), *places, *words]
        environment = {**os.environ, "PYTHONPATH": str(checkout)}
        with (Path(folder) / "log").open("w+") as log:
            start = time.perf_counter()
            process = subprocess.Popen(command, cwd=checkout, env=environment, stdout=log, stderr=subprocess.STDOUT)
            _, status, used = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)
            log.seek(0)
            text = log.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{text[-2000:]}")
    return {
        "seconds": seconds,
        "processor_seconds": used.ru_utime + used.ru_stime,
        "last_epoch_seconds": float(EPOCH.findall(text)[-1]),
        "peak_bytes": used.ru_maxrss * 1024,
        "ndcg@20": float(SCORE.search(text)[1]),
    }


def run_beside(checkout: Path, words: list[str]) -> dict:
    """The same while another process keeps two threads busy."""
    other = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        time.sleep(5)  # until it is at it
        return run(checkout, words)
    finally:
        other.kill()
        other.wait()


def measure(checkouts: dict[str, Path], shop: list[str], values: argparse.Namespace) -> dict[str, list[dict]]:
    """Runs of each side, in turn."""
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    asked = {name: getattr(values, name) for name in ("before", "beside", "shop", "words")} | {"now": head.stdout[:7]}
    runs: dict[str, list[dict]] = {}
    if values.json and values.json.exists():
        held = json.loads(values.json.read_text())
        if any(held.get(name) != value for name, value in asked.items()):
            raise SystemExit(f"--json: {values.json} has the turns of another comparison. Give another file.")
        runs = held["runs"]
    for turn, seed in enumerate(values.seeds):
        sides = sorted(checkouts, reverse=bool(turn % 2)) + ["now, beside"] * values.beside
        if all(any(one["seed"] == seed for one in runs.get(side, [])) for side in sides):
            continue
        words = [f"--seed={seed}", *shop, *values.words]
        for side in sides:
            found = (run_beside if side == "now, beside" else run)(checkouts.get(side, ROOT), words)
            runs.setdefault(side, []).append({"seed": seed, **found})
            print(side, json.dumps(runs[side][-1]), flush=True)
        if values.json:
            figures = {**asked, "machine": describe(torch.device("cpu")), "runs": runs}
            with replacing(values.json) as temporary:
                temporary.write_text(json.dumps(figures, indent=1) + "\n")
    return runs


def paired(before: list[float], now: list[float]) -> str:
    """How much more there is now, with the p of a paired t-test over the seeds."""
    more = [later - earlier for earlier, later in zip(before, now, strict=True)]
    text = f"NDCG@20, now - before: {statistics.mean(more):+.4f} ({min(more):+.4f} to {max(more):+.4f})"
    return text if len(more) < 2 else f"{text}, p of a paired t-test over seeds {ttest_rel(now, before).pvalue:.2g}"


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write."""
    values = parse(arguments)
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder) / "before"
        shop = _shop(Path(folder), values.shop) if values.shop else []
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", str(checkout), values.before], check=True, capture_output=True)
        try:
            runs = measure({"before": checkout, "now": ROOT}, shop, values)
        finally:
            subprocess.run([*git, "remove", "--force", str(checkout)], check=True)
    of = {name: {side: [one[name] for one in runs[side]] for side in runs} for name in runs["now"][0]}
    lines = [
        [
            side,
            f"{statistics.median(of['seconds'][side]):.0f}",
            f"{statistics.median(of['processor_seconds'][side]):.0f}",
            f"{statistics.median(of['last_epoch_seconds'][side]):.1f}",
            f"{max(of['peak_bytes'][side]) / 2**30:.2f}",
            f"{statistics.mean(of['ndcg@20'][side]):.4f}",
        ]
        for side in runs
    ]
    print(pipes(["", "seconds", "processor seconds", "last epoch, s", "GiB at most", "test NDCG@20"], lines))
    print(f"before / now: {in_words(ratios(of['seconds']['before'], of['seconds']['now']))}")
    last = of["last_epoch_seconds"]
    print(f"before / now, last epoch: {in_words(ratios(last['before'], last['now']))}")
    if values.beside:
        print(f"now, beside / alone: {in_words(ratios(of['seconds']['now, beside'], of['seconds']['now']))}")
    print(paired(of["ndcg@20"]["before"], of["ndcg@20"]["now"]))
    if values.json:
        print(f"Written: {values.json}")


if __name__ == "__main__":
    main()
