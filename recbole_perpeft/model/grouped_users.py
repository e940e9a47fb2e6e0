"""The users of a PerPEFT model: their groups, and what each group's module has of their scores."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import nn
from torch.nn import functional as F

from recbole_perpeft.config.choices import BY_USER, may_follow
from recbole_perpeft.grouping.methods import GROUPINGS, best_predicted, summed_losses
from recbole_perpeft.grouping.posterior import DRAWN_AT, drawn, posteriors, soft_shares
from recbole_perpeft.model.read_purchases import ReadsPurchases


class GroupedUsersMixin(ReadsPurchases):
    """Knows the group of every user, those who did not train included; a base of the PerPEFT mixins.

    Attributes
    ----------
    user_groups : torch.LongTensor
        Group of every user id, ``[n_users]``; all 0 until users are grouped, then -1 for those who did not train.
    group_rule : GroupRule
        How users are grouped in stage 2, and users who did not train after it.
    regroupings : torch.LongTensor
        How often users were moved to the group that predicts them best; from the first time on new users are too.
    group_losses : torch.FloatTensor
        With ``soft_groups``: sum of the losses of each user's training purchases under each group's module,
        ``[n_users, num_groups]``; zeros until they are known.
    group_softness, group_temperature : torch.FloatTensor
        With ``soft_groups``: see :mod:`~recbole_perpeft.grouping.posterior`; ``group_softness`` is 0 until it is found.
    users_follow : bool
        Whether users go by how well groups' modules predict their purchases, where these differ by what they learn.
    only_group : int or None
        The group whose module gives all scores, where one is set.
    """

    def _have_groups(self, config, n_users: int) -> None:
        self.num_groups = config["num_groups"]
        self.register_buffer("user_groups", torch.zeros(n_users, dtype=torch.long))
        self.register_buffer("regroupings", torch.zeros((), dtype=torch.long))
        by_user = config["personalised_by"] in BY_USER
        if config["soft_groups"] and self.num_groups > 1 and not by_user:
            self.register_buffer("group_losses", torch.zeros(n_users, self.num_groups))
            self.register_buffer("group_softness", torch.zeros(()))
            self.register_buffer("group_temperature", torch.ones(()))
        self.users_follow = hasattr(self, "group_losses") and may_follow(config)
        self.group_rule = GROUPINGS[config["grouping"]](self.num_groups, config["seed"])
        self.register_load_state_dict_pre_hook(_shape_rule)
        self.register_load_state_dict_post_hook(_place_rule)

    # -- who belongs where ------------------------------------------------------------------------------------------

    @property
    def is_grouped(self) -> bool:
        """Whether stage 2 has been: then padding, who did not train, is in no group."""
        return bool(self.user_groups[0] < 0)

    def _groups_of(self, interaction: Interaction) -> torch.Tensor:
        """Group of each row's user, ``[n]``; of users who did not train, by :meth:`groups_of_new`."""
        users = interaction[self.USER_ID]
        groups = self.user_groups[users]
        new = groups < 0
        if new.any():
            groups[new] = self.groups_of_new(users[new], self._histories(interaction)[new])
        return groups

    @torch.no_grad()
    def groups_of_new(self, users: torch.Tensor, histories: torch.Tensor) -> torch.Tensor:
        """The groups of users who did not train, by the rule by which those who did are in theirs now.

        That is the rule of ``grouping``, and once users have moved how well each group's module predicts what they
        bought. Users of whom there is nothing to go by (no purchase; one, where purchases are to be predicted from
        those before) get the largest group.

        Parameters
        ----------
        users
            User ids ``[n]``.
        histories
            Their purchases, oldest first, ``[n, length]``, padded with zeros at the end.

        Returns
        -------
        torch.LongTensor
            ``[n]``.
        """
        # sampled evaluation has a row for each of a user's candidates
        if not self.regroupings:
            histories = self.group_rule.known(histories)
        rows, row_of = torch.cat([users[:, None], histories], dim=1).unique(dim=0, return_inverse=True)
        groups = torch.full_like(rows[:, 0], -1)
        known = (rows[:, 1:] > 0).any(dim=1)
        if known.any():
            groups[known] = self._assigned(rows[known, 0], rows[known, 1:])
        return groups.masked_fill(groups < 0, self._largest_group())[row_of]

    def _assigned(self, users: torch.Tensor, histories: torch.Tensor) -> torch.Tensor:
        if not self.regroupings:
            return self.group_rule.assign(self, users, histories)
        if not self.users_follow:
            return best_predicted(self, users, histories)
        sums, numbers = summed_losses(self, users, histories)
        return self._chances(sums).argmax(dim=1).masked_fill(numbers == 0, -1).to(users.device)

    @torch.no_grad()
    def group_new(self, sequences: dict[int, np.ndarray], batch_size: int = 1024) -> int:
        """Put those who are in no group, of users who train now, into theirs by :meth:`groups_of_new`.

        Parameters
        ----------
        sequences
            User id to training purchases, oldest first.

        Returns
        -------
        int
            How many there were.
        """
        self.eval()
        groups = self.user_groups.tolist()  # nobody's group depends on who came just before
        new = {user: items for user, items in sequences.items() if groups[user] < 0}
        found = []
        for users, histories in self._padded(new, batch_size) if new else ():
            found.append((users, self.groups_of_new(users, histories)))
            if self.is_soft:
                self.group_losses[users] = self._losses_of_new(users, histories)
        for users, theirs in found:
            self.user_groups[users] = theirs
        return len(new)

    # -- soft groups ------------------------------------------------------------------------------------------------

    only_group: int | None = None

    @contextmanager
    def scored_by(self, group: int) -> Iterator[None]:
        """Let all users' scores come from one group's module alone for a while."""
        before, self.only_group = self.only_group, group
        try:
            yield
        finally:
            self.only_group = before

    @property
    def is_soft(self) -> bool:
        """Whether scores of a user come from more than their own group's module."""
        return hasattr(self, "group_softness") and self.is_grouped and bool(self.group_softness > 0)

    def _shares(self, interaction: Interaction) -> torch.Tensor:
        """What each group's module has of the scores of each row's user, ``[n, num_groups]``."""
        own, users = self._groups_of(interaction), interaction[self.USER_ID]
        losses = self.group_losses[users]
        new = self.user_groups[users] < 0
        if new.any():
            losses[new] = self._losses_of_new(users[new], self._histories(interaction)[new])
        return soft_shares(own, posteriors(losses, self.group_sizes(), self.group_temperature), self.group_softness)

    def shares_of_groups(self, interaction: Interaction) -> torch.Tensor:
        """What each group's module has of the scores of each row's user, ``[n, num_groups]``, rows of sum 1."""
        if self.only_group is not None:
            everyone = torch.full((len(interaction),), self.only_group, device=self.device)
            return F.one_hot(everyone, self.num_groups).float()
        if self.is_soft:
            return self._shares(interaction)
        return F.one_hot(self._groups_of(interaction), self.num_groups).float()

    def _losses_of_new(self, users: torch.Tensor, histories: torch.Tensor) -> torch.Tensor:
        """As :attr:`group_losses`, of users who did not train, from ``histories [n, length]``, ``[n, num_groups]``."""
        rows, row_of = torch.cat([users[:, None], histories], dim=1).unique(dim=0, return_inverse=True)
        return summed_losses(self, rows[:, 0], rows[:, 1:])[0].to(self.device)[row_of]

    def _largest_group(self) -> int:
        return int(self.group_sizes().argmax())

    def group_sizes(self) -> torch.Tensor:
        """How many users who trained are in each group, ``[num_groups]``."""
        return self.user_groups[self.user_groups >= 0].bincount(minlength=self.num_groups)

    def personalise(self, users: np.ndarray, groups: np.ndarray) -> None:
        """Put ``users [n]`` into ``groups [n]``; every group starts from a copy of the global module and projector."""
        self.user_groups.fill_(-1)
        if hasattr(self, "group_losses"):
            self.group_losses.zero_()
        self.move(users, groups)
        self.item_tower.personalise(self.num_groups)

    def follow(self, users: np.ndarray, losses: torch.Tensor) -> None:
        """Put ``users [n]`` into the groups that are likeliest by ``losses [n, num_groups]``, which are kept."""
        self.group_losses[torch.from_numpy(users).to(self.device)] = losses.to(self.group_losses)
        self.move(users, self._chances(losses).argmax(dim=1).numpy())
        self.regroupings += 1

    def _chances(self, losses: torch.Tensor) -> torch.Tensor:
        """How likely each group is to be that of users with such ``losses [n, num_groups]``, on the CPU, as they."""
        return posteriors(losses.cpu(), self.group_sizes().cpu(), DRAWN_AT)

    def drawn_groups(self, generator: torch.Generator) -> np.ndarray:
        """A group for every user id, ``[n_users]``: drawn, or the user's own as long as no losses are known."""
        groups, losses = self.user_groups.cpu().clone(), self.group_losses.cpu()
        known = losses.any(dim=1) & (groups >= 0)
        groups[known] = drawn(self._chances(losses[known]), generator)
        return groups.numpy()

    def regroup(self, users: np.ndarray, groups: np.ndarray) -> int:
        """Put ``users [n]`` into ``groups [n]`` that follow from how well each predicts them; gives how many moved."""
        before = self.user_groups.clone()
        self.move(users, groups)
        self.regroupings += 1
        return int((self.user_groups != before).sum())

    def move(self, users: np.ndarray, groups: np.ndarray) -> None:
        """Put ``users [n]`` into ``groups [n]``."""
        device = self.user_groups.device
        self.user_groups[torch.from_numpy(users).to(device)] = torch.from_numpy(groups).to(device)

    def backbone_parameters(self) -> dict[str, nn.Parameter]:
        """All that is not of the item tower, by name."""
        return {name: value for name, value in self.named_parameters() if not name.startswith("item_tower.")}


def _shape_rule(model: nn.Module, state_dict: dict, prefix: str, *others) -> None:
    """What a rule keeps depends on whether users are grouped, so a state brings its own; a part of one does not."""
    if f"{prefix}user_groups" in state_dict:
        start = f"{prefix}group_rule."
        kept = {key.removeprefix(start): value for key, value in state_dict.items() if key.startswith(start)}
        model.group_rule.shape_as(kept)


def _place_rule(model: nn.Module, incompatible_keys: object) -> None:
    """What a rule keeps comes from the state, and is where that was."""
    model.group_rule.to(model.device)
