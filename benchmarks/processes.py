"""Several processes with one thread each against one: how many times as fast do they train and validate?

    python benchmarks/processes.py --turns 2 --json processes.json

Both sides train the demo, taking the same steps on the same batches of stage 3, in turn and with swapped order; each
turn starts its processes anew. Two things are measured beside: several processes whose batches are larger, so that each
has as many users of a step as one process has alone (``more users``: an epoch has fewer steps then, and ends
elsewhere); and what the machine itself allows, as many processes at the same time, each with a training of its own
(``apart``). Without ``--model`` and further words (``-- --peft_type=IISAN``), it is PerPEFTSASRec as it comes, with
IISAN, and with IISAN and larger batches. Of a turn's batches the median counts, which other work on the machine
disturbs little.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for benchmarks, which is not installed
PARTS = ("batch", "processor", "validation")
SIDES = {  # users of a batch, and words
    "LoRA": (64, ()),
    "IISAN": (64, ("--peft_type=IISAN",)),
    "IISAN, 256 users a batch": (256, ("--peft_type=IISAN",)),
}
_OF_A_GROUP = 250  # users of the demo: no batch has more


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=2, help="that are measured, after one to warm up")
    parser.add_argument("--model", default="PerPEFTSASRec")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--users", type=int, default=64, help="of a batch, with words")
    parser.add_argument("words", nargs="*", help="settings of the run, after --")
    return parser.parse_args(arguments)


def work(model: str, words: list[str], epochs: int, folder: str, meeting: tuple[str, int]) -> dict[str, float]:
    """In one process, seconds of a batch of stage 3, the processor's of it, and seconds of a validation.

    ``meeting`` is a folder, in which so many processes as its second value says wait for one another.
    """
    import numpy as np
    import torch

    from recbole_perpeft import quick_start
    from recbole_perpeft.config import Config
    from recbole_perpeft.trainer.stage import Stage
    from recbole_perpeft.utils import joining, processes
    from recbole_perpeft.utils.launch import place

    os.chdir(folder)
    torch.set_num_threads(1)
    with joining.joined(place()):
        joining.connect(torch.device("cpu"))
        places = [f"--content_cache={folder}/content", "--show_progress=False", "--use_gpu=False"]
        config = Config(model, "demo", command_line=[*places, *words])
        _, trainer, train_data, valid_data, _ = quick_start.prepare(config)
        processes.meet()
        users = np.fromiter(train_data.histories, dtype=np.int64)
        trainer.model.personalise(users, np.arange(len(users)) % config["num_groups"])
        train_data.set_groups(trainer.model.user_groups.numpy(), config["group_negatives"])
        trainer.begin_stage(Stage.PERSONALISED)
        trainer.model.fix_likeness(train_data.purchases)
        trainer.model.train()
        took: list[tuple[float, float]] = []
        for epoch in range(1 + epochs):
            if epoch == 1:
                meet("training", *meeting)
                took.clear()
            train_data.set_epoch(epoch)
            took += timed(trainer.steps.train(train_data))
        meet("validation", *meeting)
        validating = time.perf_counter()
        trainer._valid_epoch(valid_data)
        ended = time.perf_counter()
    seconds, worked = (statistics.median(column) for column in zip(*took, strict=True))
    return {"batch": seconds, "processor": worked, "validation": ended - validating}


def timed(steps: Iterator[tuple[int, object]]) -> Iterator[tuple[float, float]]:
    """Seconds of a batch, and the processor's, of each of an epoch's ``steps`` after the first.

    Where several batches are encoded together, these wait for one another, so that most are drawn before the first.
    """
    next(steps)
    while True:
        start, worked = time.perf_counter(), time.process_time()
        batches, _ = next(steps, (0, None))
        if not batches:
            return
        yield (time.perf_counter() - start) / batches, (time.process_time() - worked) / batches


def meet(before: str, folder: str, number: int) -> None:
    """Wait until so many processes have come here."""
    place = Path(folder, before)
    place.mkdir(parents=True, exist_ok=True)
    (place / str(os.getpid())).touch()
    while len(list(place.iterdir())) < number:
        time.sleep(0.001)


def measure(values: argparse.Namespace) -> dict[str, dict[str, list[dict]]]:
    """Of each side, what one process, several together (with more users too) and several apart took, in turn."""
    from recbole_perpeft.utils.launch import Place, places, start

    alone, several = Place(0, 1, 0, 1, "localhost", 0), values.processes
    runs: dict[str, dict[str, list[dict]]] = {}
    sides = {"as given": (values.users, tuple(values.words))} if values.words else SIDES
    with tempfile.TemporaryDirectory() as folder:
        for side, (users, words) in sides.items():
            together = places(several, -1, None, None, 0)
            started = {
                "1": ([alone], users),
                f"{several}": (together, users),
                f"{several}, more users": (together, several * users),
                f"{several} apart": ([alone] * several, users),
            }
            if several * users > _OF_A_GROUP:
                del started[f"{several}, more users"]
            common = {"model": values.model, "epochs": values.epochs, "folder": folder}
            first = {**common, "words": list(words), "epochs": 1, "meeting": (f"{folder}/{side} first", 1)}
            start([alone], "benchmarks.processes:work", first)  # content is prepared once
            for turn in range(values.turns):
                for which in sorted(started, reverse=turn % 2 == 1):
                    them, number = started[which]
                    meeting = f"{folder}/{side} {which} {turn}", len(them)
                    own = {"words": [*words, f"--users_per_batch={number}"], "meeting": meeting}
                    found = start(them, "benchmarks.processes:work", {**common, **own})
                    runs.setdefault(side, {}).setdefault(which, []).append(found)
                    print(side, which, json.dumps(found), flush=True)
    return runs


def main(arguments: list[str] | None = None) -> None:
    values = parse(arguments)
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch  # late: --help does not wait for it, and it reads the number of threads

    from benchmarks.machine import describe
    from benchmarks.ratios import ratios
    from recbole_perpeft.experiments.tables import pipes

    runs, several = measure(values), values.processes
    lines, found = [], {}
    for side, of_side in runs.items():
        found[side] = {}
        for part in PARTS:
            took = {which: [turn[part] for turn in turns] for which, turns in of_side.items()}
            found[side][part] = ratios(took["1"], took[f"{several}"])
            as_much = [several * seconds for seconds in took["1"]]  # work as several have done
            found[side][f"{part}, apart"] = ratios(as_much, took[f"{several} apart"])
            if part != "validation" and f"{several}, more users" in took:
                found[side][f"{part}, more users"] = ratios(as_much, took[f"{several}, more users"])
        for which, turns in of_side.items():
            middle = {part: statistics.median(turn[part] for turn in turns) for part in PARTS}
            batch, worked = (f"{1000 * middle[part]:.0f}" for part in ("batch", "processor"))
            lines.append([side, which, batch, worked, f"{middle['validation']:.2f}"])
    print(pipes(["", "processes", "ms a batch", "processor ms of one", "s a validation"], lines))
    hows = {"together": "", "more users": ", more users", "apart": ", apart"}
    columns = {f"{part}, {how}": part + of for part in PARTS for how, of in hows.items()}
    del columns["validation, more users"]  # which is the same
    times = [
        [side, *(f"{parts[name]['median']:.2f}" if name in parts else "" for name in columns.values())]
        for side, parts in found.items()
    ]
    print(pipes([f"throughput in users, {several} / 1", *columns], times))
    if values.json:
        figures = {"model": values.model, "words": values.words, "runs": runs, "ratios": found}
        values.json.write_text(json.dumps({**figures, "machine": describe(torch.device("cpu"))}, indent=1) + "\n")
        print(f"Written: {values.json}")


if __name__ == "__main__":
    main()
