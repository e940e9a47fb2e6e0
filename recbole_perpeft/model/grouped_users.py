"""The users of a PerPEFT model: their groups, and what the model makes of their purchases."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import nn
from torch.nn import functional as F

from recbole_perpeft.config.choices import BY_USER
from recbole_perpeft.data.item_lists import last_items
from recbole_perpeft.grouping.methods import GROUPINGS, best_predicted, summed_losses
from recbole_perpeft.grouping.posterior import posteriors, soft_shares
from recbole_perpeft.model.kept_outputs import keeping_outputs
from recbole_perpeft.model.score_parts import Part, only

_SCORES = 2**24  # of prefixes at a time: 64 MB


class GroupedUsersMixin:
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
        ``[n_users, num_groups]``.
    group_softness, group_temperature : torch.FloatTensor
        With ``soft_groups``: see :mod:`~recbole_perpeft.grouping.posterior`; ``group_softness`` is 0 until it is found.
    only_group : int or None
        The group whose module gives all scores, where one is set.
    """

    def _have_groups(self, config, n_users: int) -> None:
        self.num_groups = config["num_groups"]
        self.register_buffer("user_groups", torch.zeros(n_users, dtype=torch.long))
        self.register_buffer("regroupings", torch.zeros((), dtype=torch.long))
        by_user = config["personalised_by"] in BY_USER
        if config["soft_groups"] and self.num_groups > 1 and not (config["group_mixing"] or by_user):
            self.register_buffer("group_losses", torch.zeros(n_users, self.num_groups))
            self.register_buffer("group_softness", torch.zeros(()))
            self.register_buffer("group_temperature", torch.ones(()))
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

        That is the rule of ``grouping``, and from the first regrouping on how well each group's module predicts what
        they bought. Users of whom there is nothing to go by (no purchase; one, where purchases are to be predicted from
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
            assign = best_predicted if self.regroupings else self.group_rule.assign
            groups[known] = assign(self, rows[known, 0], rows[known, 1:])
        return groups.masked_fill(groups < 0, self._largest_group())[row_of]

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
        own = F.one_hot(self._groups_of(interaction), self.num_groups).float()
        mixing = self.group_mixing if self.is_grouped else 0
        return mixing / self.num_groups + (1 - mixing) * own

    def _losses_of_new(self, users: torch.Tensor, histories: torch.Tensor) -> torch.Tensor:
        """As :attr:`group_losses`, of users who did not train, from ``histories [n, length]``, ``[n, num_groups]``."""
        rows, row_of = torch.cat([users[:, None], histories], dim=1).unique(dim=0, return_inverse=True)
        return summed_losses(self, rows[:, 0], rows[:, 1:])[0].to(self.device)[row_of]

    def _largest_group(self) -> int:
        return int(self.group_sizes().argmax())

    def group_sizes(self) -> torch.Tensor:
        """How many users who trained are in each group, ``[num_groups]``."""
        return self.user_groups[self.user_groups >= 0].bincount(minlength=self.num_groups)

    def _histories(self, interaction: Interaction) -> torch.Tensor:
        """What each row's user bought before, oldest first, ``[n, length]``, padded with zeros."""
        return interaction[self.ITEM_SEQ]

    def personalise(self, users: np.ndarray, groups: np.ndarray) -> None:
        """Put ``users [n]`` into ``groups [n]``; every group starts from a copy of the global module and projector."""
        self.user_groups.fill_(-1)
        self.move(users, groups)
        self.item_tower.personalise(self.num_groups)

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

    # -- what they bought -------------------------------------------------------------------------------------------

    @torch.no_grad()
    def user_representations(self, sequences: dict[int, np.ndarray], batch_size: int = 1024) -> np.ndarray:
        """Final sequence representation of each user under group 0's module (paper: what is clustered).

        It is what the backbone's ``forward`` gives on the way to the scores of their training purchases.

        Parameters
        ----------
        sequences
            User id to their training purchases, oldest first.

        Returns
        -------
        numpy.ndarray
            ``[len(sequences), d]``, in the order of ``sequences``; their purchases' mean embedding, of backbones whose
            scores come about without ``forward``.
        """
        self.eval()
        parts = []
        with self.item_tower.catalogue(0):
            for users, histories in self._padded(sequences, batch_size):
                parts.append(self.representations_of(users, histories).cpu())
        return torch.cat(parts).numpy()

    def _padded(self, sequences: dict[int, np.ndarray], batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Users ``[batch]`` and the last of their purchases, oldest first, ``[batch, length]``, padded with zeros."""
        users = torch.from_numpy(np.fromiter(sequences, dtype=np.int64))
        padded = last_items(sequences.values(), self.max_seq_length)
        for rows in torch.arange(len(padded)).split(batch_size):
            yield users[rows].to(self.device), padded[rows].to(self.device)

    def representations_of(self, users: torch.Tensor, histories: torch.Tensor) -> torch.Tensor:
        """As :meth:`user_representations`, of padded ``histories [n, length]`` with the table in use, ``[n, d]``."""
        lengths = (histories > 0).sum(dim=1)
        fields = {self.USER_ID: users, self.ITEM_SEQ: histories, self.ITEM_SEQ_LEN: lengths}
        return self._representations(Interaction(fields))

    def _representations(self, interaction: Interaction) -> torch.Tensor:
        """What ``forward`` makes of each row's sequence, with the table in use, ``[n, d]``."""
        outputs: list[torch.Tensor] = []
        with keeping_outputs(self, outputs):
            super().full_sort_predict(interaction)
        if not outputs:
            return self._mean_purchases(interaction[self.ITEM_SEQ])
        return torch.cat(outputs).flatten(1)

    def _mean_purchases(self, items: torch.Tensor) -> torch.Tensor:
        """Mean row, in the table in use, of each row of ``items [n, length]``, padding left out, ``[n, width]``."""
        rows = F.embedding(items, self.item_tower.weight)  # [n, length, width], zeros for padding
        return rows.sum(dim=1) / (items > 0).sum(dim=1, keepdim=True).clamp(min=1)

    @torch.no_grad()
    def losses_by_group(self, prefixes: Interaction, batch_size: int = 1024) -> torch.Tensor:
        """How well each group's module predicts purchases: cross entropy of the backbone's scores over all items.

        Parameters
        ----------
        prefixes
            Rows with a target each, ``[n]``.

        Returns
        -------
        torch.FloatTensor
            ``[n, num_groups]``.
        """
        self.eval()
        batch_size = max(1, min(batch_size, _SCORES // self.n_items))
        losses = torch.empty(len(prefixes), self.num_groups)
        for group in range(self.num_groups):
            # the content term differs little between groups, and sees the target in a general model's history
            with self.item_tower.catalogue(group), only(Part.BACKBONE, self):
                for start in range(0, len(prefixes), batch_size):
                    part = prefixes[start : start + batch_size].to(self.device)
                    with self._reading(part):
                        scores = self._score_all(part)  # [batch, n_items]
                    scores[:, 0] = -torch.inf  # padding
                    losses[start : start + len(part), group] = F.cross_entropy(
                        scores, part[self.ITEM_ID], reduction="none"
                    ).cpu()
        return losses

    def prefixes_of(self, users: torch.Tensor, histories: torch.Tensor) -> tuple[Interaction, torch.Tensor]:
        """Rows with a target each, as in training: every purchase but a user's first, after all that came before.

        Parameters
        ----------
        users
            User ids ``[n]``.
        histories
            Their purchases, oldest first, ``[n, length]``, padded with zeros at the end.

        Returns
        -------
        tuple
            ``[prefixes]`` rows, and which of ``users`` each belongs to, ``[prefixes]``.
        """
        row_of, before = (histories[:, 1:] > 0).nonzero(as_tuple=True)  # [prefixes]
        lengths = before + 1
        within = torch.arange(histories.shape[1], device=histories.device) < lengths[:, None]  # [prefixes, length]
        fields = {self.USER_ID: users[row_of], self.ITEM_SEQ: histories[row_of] * within, self.ITEM_SEQ_LEN: lengths}
        return Interaction({**fields, self.ITEM_ID: histories[row_of, lengths]}), row_of

    def _reading(self, prefixes: Interaction) -> AbstractContextManager:
        """While ``prefixes`` are read; nothing to do for backbones that read each by itself."""
        return nullcontext()


def _shape_rule(model: nn.Module, state_dict: dict, prefix: str, *others) -> None:
    """What a rule keeps depends on whether users are grouped, so a state brings its own; a part of one does not."""
    if f"{prefix}user_groups" in state_dict:
        start = f"{prefix}group_rule."
        kept = {key.removeprefix(start): value for key, value in state_dict.items() if key.startswith(start)}
        model.group_rule.shape_as(kept)


def _place_rule(model: nn.Module, incompatible_keys: object) -> None:
    """What a rule keeps comes from the state, and is where that was."""
    model.group_rule.to(model.device)
