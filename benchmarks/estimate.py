"""What ``estimate`` says beside what real runs take: seconds of an epoch and of a validation, and peak memory.

    python benchmarks/estimate.py --peft LORA IISAN NONE --json estimate.json
    python benchmarks/estimate.py --peft --large benchmarks/results/speed/memory/table.json

Each run is of the demo, on one thread, two epochs of stage 1 and two of stage 3, in a process of its own; seconds are
the processor's. The first epoch of a stage is not counted: what is computed once falls into it. With ``--large``, peaks
of that table's runs are compared too.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for benchmarks, which is not installed

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = {"epochs": 4, "global_epochs": 2, "show_progress": False, "use_gpu": False, "regroup_epochs": None}
STEPS, VALIDATIONS = "steps of an epoch, stage {}", "validation, stage {}"
HEAD = ("run", "part", "measured", "estimated", "estimated / measured")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peft", nargs="*", default=["LORA", "IISAN", "NONE"], help="peft_type of the demo's runs")
    parser.add_argument("--large", type=Path, help="table.json of benchmarks/large_catalogue.py")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--run", help=argparse.SUPPRESS)  # of the process that is measured
    return parser.parse_args(arguments)


def demo(peft_type: str) -> dict:
    """Train on the demo in this process.

    Returns
    -------
    dict
        Processor seconds of parts, bytes of ``peak``, and under ``estimated`` the same as they are estimated.
    """
    import torch

    from benchmarks.machine import peak_bytes
    from recbole_perpeft import quick_start
    from recbole_perpeft.config import Config

    torch.set_num_threads(1)
    config = Config("PerPEFTSASRec", "demo", config_dict={**SETTINGS, "peft_type": peft_type})
    _, trainer, train_data, valid_data, _ = quick_start.prepare(config)
    found, started = {}, time.process_time()

    def ended(form: str, epoch: int) -> None:
        nonlocal started
        found[form.format(3 if epoch >= SETTINGS["global_epochs"] else 1)] = time.process_time() - started
        started = time.process_time()

    train_epoch = trainer._train_epoch

    def timed_epoch(data, epoch, *args, **kwargs):
        nonlocal started
        started = time.process_time()
        loss = train_epoch(data, epoch, *args, **kwargs)
        ended(STEPS, epoch)
        return loss

    trainer._train_epoch = timed_epoch
    trainer.fit(train_data, valid_data, saved=False, callback_fn=lambda epoch, score: ended(VALIDATIONS, epoch))
    found["peak"] = peak_bytes(torch.device("cpu"))
    purchases = sum(map(len, train_data.histories.values())) / len(train_data.histories)
    lengths = trainer.model.item_tower.encoder.content.lengths
    numbers = trainer.model.n_items - 1, len(train_data.histories), round(purchases), round(float(lengths[1:].mean()))
    return {**found, "estimated": estimated(config, *numbers)}


def estimated(config, items: int, users: int, purchases: int, title_tokens: int) -> dict:
    """What is said of such a run."""
    from recbole_perpeft.report.cost_model import costs
    from recbole_perpeft.report.cost_probe import measured
    from recbole_perpeft.report.cost_settings import sizes_of

    sizes, dtype = sizes_of(config, items, users, purchases, title_tokens)
    found = costs(sizes, measured(sizes, dtype, None))
    steps_1, steps_3, first, third = (cost.seconds for cost in found["Each time"])
    seconds = {
        STEPS.format(1): steps_1,
        STEPS.format(3): steps_3,
        VALIDATIONS.format(1): first,
        VALIDATIONS.format(3): third,
    }
    (whole,) = found["In all"]
    return {**seconds, "all": whole.seconds, "peak": whole.memory}


def compared(name: str, measured: dict, said: dict) -> list[list[str]]:
    """Lines of the table."""
    lines = []
    for part in (part for part in said if part in measured):
        estimate = said[part]
        is_peak, found = part == "peak", measured[part]
        shown = [f"{value / 2**30:.2f} GiB" if is_peak else f"{value:.2f} s" for value in (found, estimate)]
        lines.append([name, part, *shown, f"{estimate / found:.2f}"])
    return lines


def large(file: Path) -> list[list[str]]:
    """Peaks of large catalogues, measured and estimated."""
    import torch

    from benchmarks.large_catalogue import PURCHASES, SIDE
    from benchmarks.startup import save_tiny_clip
    from recbole_perpeft.config import Config

    torch.set_num_threads(1)
    table, lines = json.loads(file.read_text(encoding="utf-8")), []
    encoder = ROOT / "results" / "tiny-clip"
    save_tiny_clip(encoder, SIDE)
    for run in table["runs"]:
        settings = {key: table["settings"][key] for key in ("peft_type", "modalities")}
        settings |= {
            "num_groups": run["groups"],
            "encoder": str(encoder),
            "epochs": 2,
            "MAX_ITEM_LIST_LENGTH": 50,
        }
        config = Config("PerPEFTSASRec", "demo", config_dict={**settings, "use_gpu": False}, command_line=run["words"])
        said = estimated(config, run["items"], run["users"], PURCHASES - 2, 12)
        name = f"{run['items']:,} items, {run['users']:,} users, {run['groups']} groups"
        parts = {name: part["processor_seconds"] for name, part in run["parts"].items()}
        measured = {"peak": run["peak_bytes"]}
        if "test" in parts:
            measured["all"] = sum(parts.values()) - parts["lists"]
        lines += compared(name, measured, said)
    return lines


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write."""
    values = parse(arguments)
    if values.run:
        print(json.dumps(demo(values.run)))
        return
    from recbole_perpeft.experiments.tables import pipes

    runs, lines = {}, []
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for peft_type in values.peft:
        command = [sys.executable, __file__, "--run", peft_type]
        ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
        runs[peft_type] = json.loads(ended.stdout.splitlines()[-1])
        lines += compared(f"demo, {peft_type}", runs[peft_type], runs[peft_type]["estimated"])
    if values.large:
        lines += large(values.large)
    print(pipes(HEAD, lines))
    if values.json:
        values.json.write_text(json.dumps({"runs": runs, "lines": lines}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
