"""What the content term costs an evaluation, and finding its weight a validation: with it and without it, in turns.

    OMP_NUM_THREADS=1 python benchmarks/content_cost.py --model=PerPEFTSASRec --peft_type=NONE --num_groups=1 --turns 5

Times the process, not the wall, on one thread. Other words are settings of the run. Training steps do without the term.
"""

import argparse
import statistics
import sys
import tempfile
import time

import torch

from recbole_perpeft.experiments.tables import pipes
from recbole_perpeft.quick_start import prepare
from recbole_perpeft.trainer.resuming import make_config
from recbole_perpeft.trainer.term_weights import find_term_weights
from recbole_perpeft.utils.exit_status import exit_status


def measure(words: list[str], turns: int) -> dict[str, list[float]]:
    """Seconds of each turn: of an evaluation without the term, of one with it, and of finding its weight."""
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"state": "ERROR", "show_progress": False, "checkpoint_dir": folder, "content_term": True}
        _, trainer, _, valid_data, _ = prepare(make_config(config_dict=quiet, command_line=words))
        term, seconds = trainer.model.item_tower.content_term, {"without": [], "with": [], "finding": []}
        find_term_weights(trainer, valid_data)
        weight = float(term.weight) or 1.0

        def clock(what: str, work) -> None:
            trainer.model.invalidate()  # as after an epoch's steps
            start = time.process_time()
            work()
            seconds[what].append(time.process_time() - start)

        for turn in range(turns + 1):
            for what in ("without", "with") if turn % 2 else ("with", "without"):
                term.weight.fill_(weight if what == "with" else 0)
                clock(what, lambda: trainer.evaluate(valid_data, load_best_model=False))
            clock("finding", lambda: find_term_weights(trainer, valid_data))
    return {what: of_turns[1:] for what, of_turns in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    arguments, words = parser.parse_known_args()
    torch.set_num_threads(1)
    seconds = measure(words, arguments.turns)
    ratios = [one / other for one, other in zip(seconds["with"], seconds["without"], strict=True)]
    columns = [f"{statistics.median(seconds[what]):.2f}" for what in seconds]
    print(
        pipes(
            ["s, without", "s, with", "s, finding the weight", "ratio with/without"],
            [[*columns, f"{statistics.median(ratios):.2f}"]],
        )
    )


if __name__ == "__main__":
    sys.exit(exit_status(main))
