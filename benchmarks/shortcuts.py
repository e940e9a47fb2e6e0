"""What running a tower's last layer at one position buys: a stage-3 epoch with it and without it, in turns.

    OMP_NUM_THREADS=1 python benchmarks/shortcuts.py --model=PerPEFTSASRec --user_sample=300 --turns 5

Times the process, not the wall, on one thread, for some ``peft_layers``. Other words are settings of the run.
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
from recbole_perpeft.utils.exit_status import exit_status

WITH, WITHOUT = "one position", "all positions"


def measure(words: list[str], turns: int) -> tuple[float, float, float]:
    """Median seconds of an epoch with and without, and the median over turns of their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"state": "ERROR", "show_progress": False, "checkpoint_dir": folder}
        config = make_config(config_dict=quiet, command_line=words)
        _, trainer, train_data, _, _ = prepare(config)
        trainer._personalise(train_data)
        last_layers = trainer.model.item_tower.encoder.foundation.last_layers
        kept, seconds = dict(last_layers), {WITH: [], WITHOUT: []}
        for turn in range(turns + 1):
            for side in (WITH, WITHOUT) if turn % 2 else (WITHOUT, WITH):
                last_layers.clear()
                last_layers.update(kept if side == WITH else {})
                start = time.process_time()
                trainer._train_epoch(train_data, trainer.start_epoch)
                seconds[side].append(time.process_time() - start)
    seconds = {side: of_turns[1:] for side, of_turns in seconds.items()}  # the first computes what is kept
    ratios = [without / one for one, without in zip(seconds[WITH], seconds[WITHOUT], strict=True)]
    return statistics.median(seconds[WITH]), statistics.median(seconds[WITHOUT]), statistics.median(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--layers", nargs="+", default=["~", "2", "1"], help="of peft_layers; ~ is all of the three")
    arguments, words = parser.parse_known_args()
    torch.set_num_threads(1)
    lines = []
    for layers in arguments.layers:
        one, every, ratio = measure([*words, f"--peft_layers={layers}"], arguments.turns)
        lines.append([layers, f"{one:.2f}", f"{every:.2f}", f"{ratio:.3f}"])
    print(pipes(["peft_layers", f"s, {WITH}", f"s, {WITHOUT}", "ratio"], lines))


if __name__ == "__main__":
    sys.exit(exit_status(main))
