"""What the terms beside the backbone cost an evaluation, and finding their weights a validation, in turns.

    OMP_NUM_THREADS=1 python benchmarks/term_cost.py --model=PerPEFTSASRec --peft_type=NONE --num_groups=1 --turns 5

Times the process, not the wall, on one thread. Other words are settings of the run. Training steps have no terms.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for benchmarks, which is not installed

import torch  # noqa: E402

from benchmarks.ratios import ratios  # noqa: E402
from recbole_perpeft.experiments.tables import pipes  # noqa: E402
from recbole_perpeft.model.score_parts import Part  # noqa: E402
from recbole_perpeft.quick_start import prepare  # noqa: E402
from recbole_perpeft.trainer.resuming import make_config  # noqa: E402
from recbole_perpeft.trainer.term_weights import find_term_weights  # noqa: E402
from recbole_perpeft.utils.exit_status import exit_status  # noqa: E402

SIDES = {"without": (), "content": (Part.CONTENT,), "both": (Part.CONTENT, Part.PURCHASES)}
FIRST, FINDING = "finding first", "finding"


def measure(words: list[str], turns: int) -> dict[str, list[float]]:
    """Seconds of each turn: of an evaluation with no term, one and both, and of both weights found first, and again."""
    with tempfile.TemporaryDirectory() as folder:
        on = {"content_term": True, "purchase_term": True}
        quiet = {"state": "ERROR", "show_progress": False, "checkpoint_dir": folder, **on}
        _, trainer, _, valid_data, _ = prepare(make_config(config_dict=quiet, command_line=words))
        terms, seconds = trainer.model.score_terms, {what: [] for what in (*SIDES, FIRST, FINDING)}
        find_term_weights(trainer, valid_data)
        weights = {part: float(term.weight) or 1.0 for part, term in terms.items()}

        def clock(what: str, work) -> None:
            trainer.model.invalidate()  # as after an epoch's steps
            start = time.process_time()
            work()
            seconds[what].append(time.process_time() - start)

        for turn in range(turns + 1):
            for what, used in list(SIDES.items())[:: -1 if turn % 2 else 1]:
                for part, term in terms.items():
                    term.weight.fill_(weights[part] if part in used else 0)
                clock(what, lambda: trainer.evaluate(valid_data, load_best_model=False))
            for term in terms.values():
                term.weight.zero_()
            for what in (FIRST, FINDING):
                clock(what, lambda: find_term_weights(trainer, valid_data))
    return {what: of_turns[1:] for what, of_turns in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    arguments, words = parser.parse_known_args()
    torch.set_num_threads(1)
    seconds = measure(words, arguments.turns)
    columns = [f"{statistics.median(of_turns):.2f}" for of_turns in seconds.values()]
    for what in ("content", "both"):
        columns.append(f"{ratios(seconds[what], seconds['without'])['median']:.2f}")
    names = ["s, without", "s, content", "s, both", "s, weights first found", "s, found again"]
    print(pipes([*names, "content/without", "both/without"], [columns]))


if __name__ == "__main__":
    sys.exit(exit_status(main))
