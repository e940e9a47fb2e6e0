"""The main job of two commits in turn: how many times as fast is this one, alone and beside other work?

    python benchmarks/versions.py --before 76a26f4 --turns 3 --json versions.json
    python benchmarks/versions.py --before 76a26f4 --beside --turns 1 --json beside.json
    python benchmarks/versions.py --before 76a26f4 --turns 1 --shop 600 -- --epochs=3 --global_epochs=1

Each turn runs ``run_recbole_perpeft.py`` from a checkout of the commit before and from this working tree, each in a
folder of its own with nothing kept from earlier runs, and swaps who is first. What a setting is called may have changed
in between, so further words (``-- --model=PerPEFTSASRec``) are given to both and must be known to both; the default is
no word at all, which is the demo. ``--beside`` runs this working tree also beside a process that multiplies matrices
with two threads. ``--shop`` takes a synthetic shop of so many items and users in place of the demo, with a CLIP in the
configuration of ViT-B/32 and random weights; it is the training of the last epoch that counts there.
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
BUSY = "import torch; torch.set_num_threads(2); a = torch.randn(1500, 1500)\nwhile True: a @ a"
EPOCH = re.compile(r"epoch \d+ training.*?time.*?: ([0-9.]+)s")
SCORE = re.compile(r"test result.*?'ndcg@20': ([0-9.]+)")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, help="a commit of this repository")
    parser.add_argument("--turns", type=int, default=3)
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


def measure(before: Path, words: list[str], turns: int, beside: bool) -> dict[str, list[dict]]:
    """Runs of each side, in turn."""
    sides = {"before": before, "now": ROOT}
    runs: dict[str, list[dict]] = {}
    for turn in range(turns):
        for side in sorted(sides, reverse=bool(turn % 2)):
            runs.setdefault(side, []).append(run(sides[side], words))
            print(side, json.dumps(runs[side][-1]), flush=True)
        if beside:
            runs.setdefault("now, beside", []).append(run_beside(ROOT, words))
            print("now, beside", json.dumps(runs["now, beside"][-1]), flush=True)
    return runs


def main(arguments: list[str] | None = None) -> None:
    values = parse(arguments)
    import torch  # late: --help does not wait for it

    from benchmarks.machine import describe
    from benchmarks.ratios import in_words, ratios
    from recbole_perpeft.experiments.tables import pipes

    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder) / "before"
        if values.shop:
            values.words += _shop(Path(folder), values.shop)
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", str(checkout), values.before], check=True, capture_output=True)
        try:
            runs = measure(checkout, values.words, values.turns, values.beside)
        finally:
            subprocess.run([*git, "remove", "--force", str(checkout)], check=True)
    seconds = {side: [one["seconds"] for one in of_side] for side, of_side in runs.items()}
    last_epoch = {side: [one["last_epoch_seconds"] for one in of_side] for side, of_side in runs.items()}
    found = {
        "before / now": ratios(seconds["before"], seconds["now"]),
        "before / now, last epoch": ratios(last_epoch["before"], last_epoch["now"]),
    }
    if values.beside:
        found["now, beside / alone"] = ratios(seconds["now, beside"], seconds["now"])
    lines = [
        [
            side,
            f"{statistics.median(seconds[side]):.0f}",
            f"{statistics.median(one['processor_seconds'] for one in of_side):.0f}",
            f"{statistics.median(last_epoch[side]):.1f}",
            f"{max(one['peak_bytes'] for one in of_side) / 2**30:.2f}",
            f"{statistics.mean(one['ndcg@20'] for one in of_side):.4f}",
        ]
        for side, of_side in runs.items()
    ]
    print(pipes(["", "seconds", "processor seconds", "last epoch, s", "GiB at most", "test NDCG@20"], lines))
    for name, spread in found.items():
        print(f"{name}: {in_words(spread)}")
    if values.json:
        figures = {"before": values.before, "words": values.words, "runs": runs, "ratios": found}
        values.json.write_text(json.dumps({**figures, "machine": describe(torch.device("cpu"))}, indent=1) + "\n")
        print(f"Written: {values.json}")


if __name__ == "__main__":
    main()
