"""A training batch: users of one group, their prefixes, and the items that these need of the item tower."""

from functools import cached_property

import torch
from recbole.data.interaction import Interaction

from recbole_perpeft.utils.device_rows import to_device

_USERS = 64  # of a batch at most
_ROWS = 1024  # of a batch: with more, few users with long histories have too few steps in an epoch


def users_of_a_batch(rows_of_a_user: float) -> int:
    """How many users train in a step, if nobody says so: 64, or fewer if all have many rows, such as prefixes."""
    return max(1, min(_USERS, round(_ROWS / rows_of_a_user)))


class UserBatch(Interaction):
    """An Interaction of users of one group, with the items that it needs of the item tower.

    Of several processes each may have some of the users, and has the items of all.

    Attributes
    ----------
    items : torch.LongTensor
        Catalogue ids of the batch's distinct items, ``[m]``, sorted; on the CPU.
    group : int
        The group of all users of the batch.
    whole : bool
        False: item ids of the fields are rows of the small table of ``items``: row ``i`` is ``items[i - 1]``, row 0 is
        padding. True: they are catalogue ids.
    owner : torch.LongTensor
        Position of each row's user among the users of the batch, ``[n]``.
    barred : torch.BoolTensor
        ``[users, columns of the table]``: what is no negative of a user: padding, their own training purchases and,
        with group negatives, what their group did not buy.
    log_weights : torch.FloatTensor or None
        ``[columns of the table]``: the logarithm of how many items a negative of the softmax stands for.
    users : torch.LongTensor
        Ids of the batch's users, ``[users]``.
    passes, pass_of : torch.LongTensor
        Rows whose sequences hold those of all rows as their beginnings, ``[passes]``, and which of them does, ``[n]``.
    id_fields : list of str
        Names of the fields that hold item ids; the second holds each row's target.
    part : float or None
        Which part of the rows is here, if other processes have the others; None: all are here.
    """

    def __init__(
        self,
        fields: dict,
        items: torch.Tensor,
        group: int,
        whole: bool,
        id_fields: list[str],
        part: float | None = None,
        *,
        owner: torch.Tensor,
        barred: torch.Tensor,
        log_weights: torch.Tensor | None,
        users: torch.Tensor,
        passes: torch.Tensor,
        pass_of: torch.Tensor,
    ):
        super().__init__(fields)
        self.items, self.group, self.whole, self.id_fields, self.part = items, group, whole, id_fields, part
        self.owner, self.barred, self.log_weights, self.users = owner, barred, log_weights, users
        self.passes, self.pass_of = passes, pass_of

    def to(self, device, selected_field=None) -> "UserBatch":
        """The batch on ``device``, copied without waiting; ``items`` stay on the CPU."""
        device = torch.device(device)
        fields = {key: to_device(value, device) for key, value in self.interaction.items()}
        placed = {name: v if v is None else to_device(v, device) for name, v in self._of_rows().items()}
        return UserBatch(fields, self.items, self.group, self.whole, self.id_fields, self.part, **placed)

    def _of_rows(self) -> dict[str, torch.Tensor]:
        return {name: getattr(self, name) for name in ("owner", "barred", "log_weights", "users", "passes", "pass_of")}

    @cached_property
    def excluded(self) -> torch.Tensor:
        """What is no candidate of a row's softmax, ``[n, columns of the table]``; its own target is one."""
        return self.barred[self.owner].scatter_(1, self.interaction[self.id_fields[1]][:, None], False)

    def by_user(self) -> "UserBatch":
        """The batch for a table that holds its items once for each user: user ``k`` reads rows ``k m + 1`` and on."""
        m, n_users = len(self.items), len(self.users)
        fields = dict(self.interaction)
        for key in self.id_fields:
            owner = self.owner.view(-1, *[1] * (fields[key].dim() - 1))
            fields[key] = torch.where(fields[key] > 0, fields[key] + m * owner, 0)
        barred = torch.ones(n_users, n_users, m, dtype=torch.bool, device=self.barred.device)
        own = torch.arange(n_users, device=barred.device)
        barred[own, own] = self.barred[:, 1:]
        barred = torch.cat([self.barred[:, :1], barred.flatten(1)], dim=1)  # [users, users * m + 1]
        weights = self.log_weights
        if weights is not None:
            weights = torch.cat([weights[:1], weights[1:].repeat(n_users)])  # [users * m + 1]
        of_rows = self._of_rows() | {"barred": barred, "log_weights": weights}
        return UserBatch(fields, self.items, self.group, False, self.id_fields, self.part, **of_rows)
