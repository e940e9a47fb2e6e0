"""What the groups' modules are worth: with them moved to their mean, and with other groups' scores mixed in.

    python benchmarks/apart.py saved/<checkpoint>.pth [saved/<other>.pth ...] --distances 0 0.5 1 1.5

With a distance of 0 all groups have the mean of their modules and projectors, with 1 each has its own as trained. If 0
is as good as 1, groups see items alike; if something in between is better, they have moved too far.

Then one and the same model ranks with each user's own group alone, with a uniform share (of a user's scores, so much is
the mean of those under every group's module; of those of --mixings, the best in validation), and with soft groups as
the package finds them. p: two-sided paired t-test over the users, to soft groups. Needs soft_groups: True. With --last
the groups' modules are those after the last epoch, which have moved furthest, and not those of the best one.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for recbole_perpeft of this checkout

import numpy as np  # noqa: E402
import torch  # noqa: E402
from recbole.trainer import Trainer  # noqa: E402
from scipy.stats import ttest_rel  # noqa: E402

from recbole_perpeft.evaluation.ranked_rows import model_scorer, users_of_rows  # noqa: E402
from recbole_perpeft.experiments.tables import pipes  # noqa: E402
from recbole_perpeft.model.item_embedding import MultimodalItemEmbedding  # noqa: E402
from recbole_perpeft.quick_start import load  # noqa: E402
from recbole_perpeft.trainer.group_shares import find_group_shares  # noqa: E402
from recbole_perpeft.trainer.weight_average import in_place  # noqa: E402
from recbole_perpeft.utils.errors import SettingError  # noqa: E402
from recbole_perpeft.utils.exit_status import exit_status  # noqa: E402

K = 20
MIXINGS = [step / 10 for step in range(11)]


@contextmanager
def moved(tower: MultimodalItemEmbedding, num_groups: int, distance: float) -> Iterator[None]:
    """Put what each group has of its own at ``distance`` times its way from the groups' mean, for a while."""
    own = [[parameter.data for parameter in tower.group_parameters(group)] for group in range(num_groups)]
    mean = [torch.stack(values).mean(dim=0) for values in zip(*own, strict=True)]
    values = [torch._foreach_lerp(mean, parameters, distance) for parameters in own]
    tower.forget()
    try:
        with in_place(list(chain(*own)), list(chain(*values))):
            yield
    finally:
        tower.forget()


def mix(model: torch.nn.Module, share: float) -> None:
    """Let ``share`` of each user's scores be the mean of those under every group's module."""
    model.group_losses.copy_(model.group_sizes().clamp(min=1).log().expand_as(model.group_losses))  # all as likely
    model.group_temperature.fill_(1)
    model.group_softness.fill_(share)


@torch.no_grad()
def ndcg(trainer: Trainer, data) -> np.ndarray:
    """NDCG@20 of each user's held-out purchase, in the order of their ids, ``[n]``."""
    trainer.model.encode_catalogues()
    users, found = [], []
    with model_scorer(trainer, data) as score:
        for batch in data:
            interaction, scores, rows, items = score(batch)
            above = (scores[rows] > scores[rows, items, None]).sum(dim=1)
            users.append(users_of_rows(interaction[trainer.config["USER_ID_FIELD"]], scores)[rows.cpu()])
            found.append(torch.where(above < K, 1 / torch.log2(2 + above.double()), 0.0).cpu().numpy())
    return np.concatenate(found)[np.concatenate(users).argsort(kind="stable")]


def ways(trainer: Trainer, train_data, parts: tuple, mixings: list[float]) -> list[list[str]]:
    """A row for each way of mixing one model's groups: what it is, and what it has in validation and test."""
    model, (valid_data, _) = trainer.model, parts
    by_share = {}
    for share in mixings:
        mix(model, share)
        by_share[share] = ndcg(trainer, valid_data).mean()
        print(f"uniform share {share:g}: {by_share[share]:.4f} in validation", flush=True)
    best = max(by_share, key=by_share.get)
    find_group_shares(trainer, train_data, valid_data)
    name = f"soft groups, {float(model.group_softness):g} at T {float(model.group_temperature):g}"
    soft = [ndcg(trainer, data) for data in parts]
    rows = []
    for share, name_of in ((0, "own group"), (best, f"uniform, {best:g}")):
        mix(model, share)
        own = [ndcg(trainer, data) for data in parts]
        tests = [(float(ttest_rel(*pair).pvalue)) for pair in zip(soft, own, strict=True)]
        rows.append([name_of, *(f"{one.mean():.4f} (p {p:.2f})" for one, p in zip(own, tests, strict=True))])
    return [*rows, [name, *(f"{one.mean():.4f}" for one in soft)]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--last", action="store_true")
    parser.add_argument("--distances", nargs="*", type=float, default=[0, 0.5, 1, 1.5])
    parser.add_argument("--mixings", nargs="+", type=float, default=MIXINGS)
    arguments = parser.parse_args()
    for checkpoint in arguments.checkpoints:
        config, trainer, train_data, *parts = load(checkpoint, {"show_progress": False, "state": "ERROR"})
        tower, model = trainer.model.item_tower, trainer.model
        if not any(tower.group_parameters(group) for group in range(config["num_groups"])):
            raise SettingError(f"{checkpoint} has nothing of the groups' own. Give one with num_groups above 1.")
        if not hasattr(model, "group_softness"):
            raise SettingError(f"{checkpoint} has no soft groups. Give one with soft_groups: True.")
        print(f"\n{checkpoint}: {config['dataset']}, {int((model.user_groups >= 0).sum())} users\n")
        if arguments.last:
            trainer.resume_checkpoint(checkpoint, to_train=False)
        with trainer.steps.averaged() if arguments.last else nullcontext():
            mix(model, 0)
            lines = []
            for distance in arguments.distances:
                with moved(tower, config["num_groups"], distance):
                    lines.append([f"{distance:g}", f"{ndcg(trainer, parts[0]).mean():.4f}"])
            print(pipes(["distance from the mean", f"NDCG@{K}, validation"], lines) + "\n")
            rows = ways(trainer, train_data, tuple(parts), arguments.mixings)
        print("\n" + pipes(["groups", f"NDCG@{K}, validation", "test"], rows), flush=True)


if __name__ == "__main__":
    sys.exit(exit_status(main))
