"""Samplers of negatives, in which ``mask_history`` holds for evaluation among sampled items too."""

from logging import getLogger

import numpy as np
import torch
from recbole.data.utils import create_samplers
from recbole.sampler import RepeatableSampler, Sampler

from recbole_perpeft.data.dataset import SequencePurchases
from recbole_perpeft.utils.errors import DataError

_DRAWN = {"uniform": "uniformly", "popularity": "by popularity"}


class UnseenItemSampler(RepeatableSampler):
    """Draws, for each target of a sequential model, items that its user had not bought by then.

    RecBole's own leaves out the target alone. As in RecBole, items are drawn with replacement.

    Parameters
    ----------
    phase
        ``"valid"`` or ``"test"``.
    dataset
        The whole data set; its purchases are the candidates.
    distribution
        ``"uniform"`` or ``"popularity"``.
    """

    def __init__(self, phase: str, dataset, distribution: str):
        self._sequences = dataset.sequences
        super().__init__(phase, dataset, distribution)
        self.phase = phase
        everything = np.arange(1, self.item_num) if distribution == "uniform" else self._get_candidates_list()
        self._candidates = len(set(everything))

    def _get_candidates_list(self) -> list[int]:
        """Every purchase, as for general models; RecBole leaves out each user's first, which is no target."""
        return np.concatenate(list(self._sequences.values())).tolist()

    def check(self, part) -> None:
        """Refuse targets of ``part`` beside which nothing can be drawn, before a model is trained for them.

        Raises
        ------
        DataError
            If a user had bought every item.
        """
        users, items = (part.inter_feat[field].tolist() for field in (part.uid_field, part.iid_field))
        self._refuse_all([self._bought_by(user, item) for user, item in zip(users, items, strict=True)])

    def sample_by_user_ids(self, user_ids: np.ndarray, item_ids: np.ndarray, num: int) -> torch.Tensor:
        """``num`` items for each pair of a user and a target, as RecBole orders them, ``[num * pairs]``.

        Raises
        ------
        DataError
            If a user had bought every item.
        """
        bought = [self._bought_by(user, item) for user, item in zip(user_ids.tolist(), item_ids.tolist(), strict=True)]
        self._refuse_all(bought)
        self.used_ids = np.array(bought)  # [pairs] of sets
        return self.sample_by_key_ids(np.arange(len(bought)), num)

    def _refuse_all(self, bought: list[set[int]]) -> None:
        most = max(map(len, bought))
        if most >= self._candidates:
            raise DataError(
                f"A user had bought {most} items, all that can be drawn ({self._candidates}), so that no negative is "
                "left to evaluate among: leave such users out with user_inter_num_interval, or set mode: full in "
                "eval_args."
            )

    def _bought_by(self, user: int, target: int) -> set[int]:
        """What ``user`` had bought when they bought ``target``, the target included."""
        items = self._sequences[user]
        return set(items[: int(np.flatnonzero(items == target)[0]) + 1].tolist())


def make_samplers(config, dataset, parts: list) -> tuple:
    """RecBole's samplers for training, validation and test, with ``mask_history`` in the latter two.

    Raises
    ------
    DataError
        If some user bought every item.
    """
    try:
        samplers = list(create_samplers(config, dataset, parts))
        for place, phase in ((1, "valid"), (2, "test")):
            args = config[f"{phase}_neg_sample_args"]
            distribution, is_drawn = args["distribution"], isinstance(args["sample_num"], int)
            if distribution == "none":
                continue
            if not config["mask_history"]:
                if is_drawn and not isinstance(samplers[place], RepeatableSampler):  # which leaves out purchases
                    samplers[place] = RepeatableSampler(phase, dataset, distribution).set_phase(phase)
            elif isinstance(dataset, SequencePurchases):
                if is_drawn:
                    samplers[place] = UnseenItemSampler(phase, dataset, distribution)
                    samplers[place].check(parts[place])
            elif isinstance(samplers[place], RepeatableSampler):  # repeatable: True, which forgets what was bought
                samplers[place] = Sampler(["train", "valid", "test"], parts, distribution).set_phase(phase)
    except ValueError as error:
        raise DataError(f"Data set {config['dataset']}: {error}") from error
    _say_how(config)
    return tuple(samplers)


def _say_how(config) -> None:
    history = "none of which the user had bought by then" if config["mask_history"] else "bought before or not"
    said = set()
    for phase, does in (("test", "tests"), ("valid", "validates")):
        mode, args = config["eval_args"]["mode"][phase], config[f"{phase}_neg_sample_args"]
        if not isinstance(args["sample_num"], int) or mode in said:
            continue
        said.add(mode)
        getLogger().info(
            f"eval_args: mode: {mode} {does} each target among {args['sample_num']} items, drawn "
            f"{_DRAWN[args['distribution']]}, {history} (mask_history: {config['mask_history']}). They are drawn with "
            "replacement, as in RecBole, so fewer than that are different."
        )
