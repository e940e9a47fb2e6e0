"""What compile_encoder buys: the encoder's part of a training step, plain and compiled, in turn.

    python benchmarks/compiled.py --encoder vit-b-32 --layers 3 --json compiled.json
    python benchmarks/compiled.py --encoder vit-b-32 --layers 3 '~' --batch 1024 --turns 20 --device cuda

Encodes the same items of a synthetic shop for one group after the other, forward and backward, on each side. On a CPU
the seconds are the process's on one thread, on a GPU those of the wall. The first call stands apart: it compiles.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for benchmarks and dataset, which are not installed

import torch  # noqa: E402

from benchmarks.machine import describe  # noqa: E402
from benchmarks.parts import synchronise  # noqa: E402
from benchmarks.ratios import in_words, ratios  # noqa: E402
from benchmarks.sides import Settings  # noqa: E402
from benchmarks.synthetic import Shop, make_shop  # noqa: E402
from recbole_perpeft.experiments.tables import pipes  # noqa: E402
from recbole_perpeft.quick_start import prepare  # noqa: E402

GROUPS = 8
PLAIN, COMPILED = "plain", "compiled"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", choices=("demo", "vit-b-32"), default="demo")
    parser.add_argument("--layers", nargs="+", default=["3"], help="of peft_layers; ~ is all")
    parser.add_argument("--batch", type=int, default=128, help="items that are encoded together")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", type=Path, help="file for all figures")
    return parser.parse_args(arguments)


def measure(shop: Shop, layers: str, batch: int, turns: int, device: torch.device, work: Path) -> dict:
    """Seconds of each side's turns, of the first compiled call, and how many functions were compiled."""
    settings = Settings(layers, (f"--peft_layers={layers}", "--compile_encoder=True", "--state=WARNING"))
    _, trainer, *_ = prepare(settings.config(shop, GROUPS, device, work))
    encoder = trainer.model.item_tower.encoder.train()
    items, features = torch.arange(1, batch + 1), encoder.item_features
    run = {PLAIN: None, COMPILED: features.compiled}
    clock = time.perf_counter if device.type == "cuda" else time.process_time

    def seconds(side: str, group: int, now=clock) -> float:
        features.compiled = run[side]
        parameters = [parameter for _, parameter in encoder.adapter_parameters(group)]
        synchronise(device)
        start = now()
        encoded = encoder.encode(items, group)
        weights = torch.linspace(0, 1, encoder.feature_dim, device=device)
        torch.autograd.grad((encoded * weights).sum(), parameters, allow_unused=True)
        synchronise(device)
        return now() - start

    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    seconds(PLAIN, 0)
    first = seconds(COMPILED, 0, time.perf_counter)
    of_sides = {PLAIN: [], COMPILED: []}
    for turn in range(turns):
        for side in sorted(of_sides, reverse=bool(turn % 2)):
            of_sides[side].append(seconds(side, turn % GROUPS))
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"] - before
    return {"first call": first, "functions": compiled, "seconds": of_sides}


def main(arguments: list[str] | None = None) -> None:
    values = parse(arguments)
    device = torch.device(values.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    lines, figures = [], {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        number = max(values.batch, 200)
        shop = make_shop(work, values.encoder, number, number, min(number, 100), seed=2026)
        for layers in values.layers:
            figures[layers] = one = measure(shop, layers, values.batch, values.turns, device, work)
            sides = one["seconds"]
            least = [min(sides[side]) for side in (PLAIN, COMPILED)]
            lines.append(
                [layers, f"{one['first call']:.0f}", str(one["functions"]), *(f"{side:.3f}" for side in least)]
                + [in_words(ratios(sides[PLAIN], sides[COMPILED]))]
            )
            print(layers, json.dumps(one), flush=True)
    names = ["peft_layers", "first call, s", "functions", "plain, s", "compiled, s", "plain / compiled"]
    print(pipes(names, lines))
    if values.json:
        conditions = {key: value for key, value in vars(values).items() if key != "json"}
        result = {**conditions, "layers": figures, "machine": describe(device)}
        values.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
