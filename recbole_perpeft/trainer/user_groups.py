"""The users' groups in the course of a training: found in stage 2, changed between epochs."""

from logging import getLogger

import numpy as np
import torch
from torch import nn

from recbole_perpeft.data.dataloader import UserBatchLoader
from recbole_perpeft.grouping.assignment import best_groups, losses_of_users, stage_2_groups
from recbole_perpeft.grouping.posterior import tell_apart
from recbole_perpeft.trainer.stage_report import grouping_report, small_groups_report
from recbole_perpeft.utils import processes

FOLLOWED = 2**14  # by which users follow the modules, at a validation


class UserGroups:
    """Puts users into groups, lets the loader know, and says so in the log.

    Parameters
    ----------
    config : recbole_perpeft.config.Config
        The settings.
    model
        A PerPEFT model, which holds the groups.
    """

    def __init__(self, config, model: nn.Module):
        self._config, self._model = config, model
        self._remarks: list[str] = []
        self._foreseen: tuple[np.ndarray, np.ndarray] | None = None

    def find(self, loader: UserBatchLoader) -> None:
        """Stage 2: group the users by their training purchases, and start every group from the global module."""
        users, groups = stage_2_groups(self._model, loader)
        self._model.personalise(users, processes.of_first(groups))
        self._model.take_from_first()
        self.use(loader)
        getLogger().info(grouping_report(self._config["grouping"], self._sizes(groups), loader.group_pools))

    def foresee(self, loader: UserBatchLoader) -> None:
        """Find what :meth:`change` is to do, by the item tables that a validation has made and that are still there."""
        self._foreseen = best_groups(self._model, loader)

    def change(self, loader: UserBatchLoader) -> None:
        """Move users to the group whose module predicts their training purchases best."""
        users, groups = self._foreseen or best_groups(self._model, loader)
        moved = self._model.regroup(users, processes.of_first(groups))
        self.use(loader)
        getLogger().info(f"{moved} users changed their group, sizes now {self._sizes(groups)}")

    def follow(self, loader: UserBatchLoader, epoch: int) -> None:
        """Let users belong to the groups whose modules predict their purchases best, other ones of many each time.

        Not as long as the modules are too alike to tell: users would be spread over the groups by chance.
        """
        users, sums, _ = losses_of_users(self._model, loader, self._of_some(loader, epoch))
        losses = processes.of_first(torch.from_numpy(sums))
        if not tell_apart(losses):
            return
        before = self._model.user_groups.clone()
        self._model.follow(users, losses)
        moved = int((self._model.user_groups != before).sum())
        getLogger().info(f"{moved} of {len(users)} users belong to another group than before")

    def _of_some(self, loader: UserBatchLoader, epoch: int) -> np.ndarray | None:
        """Rows of the purchases of some users, other ones in each ``epoch``; None: all, where they are few."""
        users = loader.purchases[self._model.USER_ID].numpy()
        turns = -(-len(users) // FOLLOWED)
        if turns <= 1:
            return None
        turn = epoch // self._config["eval_step"]
        return np.flatnonzero(users % turns == turn % turns)

    def draw(self, loader: UserBatchLoader, seed: int) -> None:
        """Let ``loader`` make the batches of an epoch of groups that are drawn, each as likely as it is the user's."""
        groups = self._model.drawn_groups(torch.Generator().manual_seed(seed))
        loader.set_groups(groups, self._config["group_negatives"])

    def use(self, loader: UserBatchLoader) -> None:
        """Let ``loader`` make batches of the model's groups; those that are too small are named, if they are new."""
        groups = self._model.user_groups.cpu().numpy().copy()  # which a state that is loaded would overwrite
        loader.set_groups(groups, self._config["group_negatives"])
        self._foreseen = None
        remarks = small_groups_report(groups, self._config["num_groups"], loader.pools.too_small)
        for remark in remarks:
            if remark not in self._remarks:  # as they were before the last regrouping
                getLogger().warning(remark)
        self._remarks = remarks

    def _sizes(self, groups: np.ndarray) -> list[int]:
        return np.bincount(groups, minlength=self._config["num_groups"]).tolist()
