"""How long one of RecBole's own models takes to its first training step, in two checkouts side by side.

    git worktree add --detach ../before bbc7d98
    python benchmarks/first_step.py --before ../before --after .

In turns, each in a fresh process: the seconds from the process's start to the end of BPR's first training step on the
demo, to the end of ``--help``, and to the error of a misspelt setting. A round that is not counted goes first, so that
files come from memory. Other work on the machine slows both sides alike: the ratio is the median over the rounds, and
processor seconds stand beside.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Stops a run at its first training step, wherever the checkout imports what from: torch is there when RecBole's trainer
# is imported, and nothing else is imported before the run imports it.
_TO_FIRST_STEP = """
import os, runpy, sys

class AtTrainer:
    def find_spec(self, name, path=None, target=None):
        if name == "recbole.trainer":
            sys.meta_path.remove(self)
            from torch.optim.optimizer import register_optimizer_step_post_hook
            register_optimizer_step_post_hook(lambda *_: os._exit(0))

sys.meta_path.insert(0, AtTrainer())
sys.path.insert(0, os.getcwd())
runpy.run_path("run_recbole_perpeft.py", run_name="__main__")
"""
_SCRIPT = "run_recbole_perpeft.py"


def commands(folder: Path) -> dict[str, tuple[list[str], int]]:
    """What is timed: words after ``python``, and the exit status that is right."""
    quiet = ["--show_progress=False", "--use_gpu=False", f"--checkpoint_dir={folder}"]
    return {
        "first step of BPR": (["-c", _TO_FIRST_STEP, "--model=BPR", *quiet], 0),
        "--help": ([_SCRIPT, "--help"], 0),
        "a misspelt setting": ([_SCRIPT, "--model=BPR", "--lerning_rate=0.1"], 2),
    }


def seconds(words: list[str], status: int, checkout: Path) -> tuple[float, float]:
    """Wall-clock and processor seconds of one fresh process in a checkout."""
    used = _processor_seconds()
    began = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run([sys.executable, *words], cwd=checkout, env=environment, capture_output=True, text=True)
    took = time.perf_counter() - began
    if done.returncode != status:
        sys.exit(f"{checkout}: exit status {done.returncode}, not {status}:\n{done.stderr}")
    return took, _processor_seconds() - used


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(before: Path, after: Path, rounds: int) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Of each command and side, wall-clock and processor seconds of each round."""
    sides = {"before": before.resolve(), "after": after.resolve()}
    with tempfile.TemporaryDirectory() as folder:
        timed = commands(Path(folder))
        found = {name: {side: [] for side in sides} for name in timed}
        for number in range(rounds + 1):
            for name, (words, status) in timed.items():
                for side, checkout in sides.items():
                    took = seconds(words, status, checkout)
                    if number:
                        found[name][side].append(took)
    return found


def report(found: dict[str, dict[str, list[tuple[float, float]]]]) -> str:
    """A Markdown table of medians, and of the median ratio over the rounds."""
    lines = ["| | before | after | after / before (min to max) | processor seconds |", "|---|---|---|---|---|"]
    for name, sides in found.items():
        (wall_before, used_before), (wall_after, used_after) = (zip(*sides[side], strict=True) for side in sides)
        ratios = [new / old for new, old in zip(wall_after, wall_before, strict=True)]
        used = f"{statistics.median(used_before):.2f} to {statistics.median(used_after):.2f}"
        lines.append(
            f"| {name} | {statistics.median(wall_before):.2f} s | {statistics.median(wall_after):.2f} s "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | {used} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="a checkout")
    parser.add_argument("--after", type=Path, required=True, help="another")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    arguments = parser.parse_args()
    result = measure(arguments.before, arguments.after, arguments.rounds)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    print(
        f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, {arguments.rounds} rounds"
    )
    print(report(result))
