"""Peak memory of one side's training, and what each group adds; in a process of its own.

    python -m benchmarks.memory '{"settings": ..., ...}'

is how :func:`measure` calls this file; the last line printed is the result as JSON.
"""

import contextlib
import dataclasses
import itertools
import json
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.compare import Side
from benchmarks.machine import peak_bytes, tensor_bytes
from benchmarks.sides import OurSide, Settings, make_side
from benchmarks.synthetic import Shop

STEPS = 3


def measure(settings: Settings, shop: Shop, num_groups: int, device: torch.device, work: Path) -> dict:
    """Run :func:`train_a_little` in a fresh process.

    Returns
    -------
    dict
        Its result.
    """
    arguments = {
        "settings": dataclasses.asdict(settings),
        "shop": {name: str(path) for name, path in vars(shop).items()},
        "num_groups": num_groups,
        "device": str(device),
        "work": str(work),
    }
    command = [sys.executable, "-m", "benchmarks.memory", json.dumps(arguments)]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def train_a_little(settings: Settings, shop: Shop, num_groups: int, device: torch.device, work: Path) -> dict:
    """Train a few steps of stage 3.

    Returns
    -------
    dict
        ``peak_bytes``, the most this process held until then. Of this package's sides also ``resting_bytes``, all
        tensors once every group has its optimiser state, and of one group ``group_parameter_bytes`` and
        ``group_optimizer_bytes``.
    """
    side = make_side(settings, shop, num_groups, device, work)
    dataset = side.train_data._dataset
    side.personalise(shop.groups(dataset.field2id_token[dataset.uid_field], num_groups))
    side.begin_training()
    _train(side)
    result = {"peak_bytes": peak_bytes(device)}
    if isinstance(side, OurSide):
        result |= _resting(side, device)
    return result


def _train(side: Side) -> None:
    for window in itertools.islice(side.windows(), STEPS):
        side.train(window)


def _resting(side: OurSide, device: torch.device) -> dict:
    optimizer = side.trainer.optimizer
    for parameter in side.model.trainable_parameters():  # a step of every group, without its cost
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    own = side.model.item_tower.group_parameters(0)
    state = [value for p in own for value in optimizer.state[p].values() if isinstance(value, torch.Tensor)]
    return {
        "resting_bytes": tensor_bytes(device),
        "group_parameter_bytes": sum(tensor.nbytes for tensor in own),
        "group_optimizer_bytes": sum(tensor.nbytes for tensor in state),
    }


def main() -> None:
    """Read the arguments, work in the folder that they name, print the result."""
    arguments = json.loads(sys.argv[1])
    settings = {key: tuple(v) if isinstance(v, list) else v for key, v in arguments["settings"].items()}
    shop = Shop(**{name: Path(path) for name, path in arguments["shop"].items()})
    work, device = Path(arguments["work"]), torch.device(arguments["device"])
    with contextlib.chdir(work):
        result = train_a_little(Settings(**settings), shop, arguments["num_groups"], device, work)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
