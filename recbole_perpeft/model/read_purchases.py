"""What a PerPEFT model makes of users' purchases: representations, and how well each group's module predicts them."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch.nn import functional as F

from recbole_perpeft.data.item_lists import last_items
from recbole_perpeft.likeness.purchases import Purchases
from recbole_perpeft.likeness.similarity import profiles
from recbole_perpeft.likeness.softness import loss_among
from recbole_perpeft.model.kept_outputs import keeping_outputs
from recbole_perpeft.model.score_parts import Part, only

_SCORES = 2**24  # of prefixes at a time: 64 MB
MOST_COMPARED = 2**16  # items of a catalogue that a purchase is compared with, all of them
DRAWN = 2**14  # of a larger catalogue
DRAWN_BY_CONTENT = 2**12  # of a catalogue that has more, by vectors of the encoder's full width


class ReadsPurchases:
    """Reads sequences of purchases with the backbone; a base of the PerPEFT mixins."""

    def _histories(self, interaction: Interaction) -> torch.Tensor:
        """What each row's user bought before, oldest first, ``[n, length]``, padded with zeros."""
        return interaction[self.ITEM_SEQ]

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

    @property
    def groups_differ_by_content(self) -> bool:
        """Whether each group's module has learnt from the content term in what items are alike."""
        term = self.item_tower.content_term
        return term is not None and term.is_learnt and self.item_tower.encoder.num_groups > 1

    @torch.no_grad()
    def losses_by_group(
        self, prefixes: Interaction, batch_size: int = 1024, groups: Iterable[int] | None = None
    ) -> torch.Tensor:
        """How well each group's module predicts purchases: cross entropy of its scores over all items.

        Scores are the backbone's. Where the modules learn from the content term they are that term's, as in training:
        the backbone is one for all groups, and knows the purchases by heart. Of many items some are drawn once, the
        same for all groups, each for as many as it stands for: 4,096 for the content term; 16,384 of more than 65,536
        for backbones that compare one vector of a sequence with the items'.

        Parameters
        ----------
        prefixes
            Rows with a target each, ``[n]``.
        groups
            Whose modules are asked; None: all.

        Returns
        -------
        torch.FloatTensor
            ``[n, num_groups]``; zeros for other groups.
        """
        self.eval()
        by_content = self.groups_differ_by_content
        drawn = self._drawn_items(by_content)
        batch_size = max(1, min(batch_size, _SCORES // (self.n_items if drawn is None else len(drawn))))
        losses = torch.zeros(len(prefixes), self.num_groups)
        for group in range(self.num_groups) if groups is None else groups:
            # without the content term: where modules do not learn from it, it differs little between groups, and sees
            # the target in a general model's history
            with self.item_tower.catalogue(group), only(Part.BACKBONE, self):
                for start in range(0, len(prefixes), batch_size):
                    part = prefixes[start : start + batch_size].to(self.device)
                    if by_content:
                        found = self._content_losses(part, drawn)
                    else:
                        with self._reading(part):
                            found = self._losses(part) if drawn is None else self._losses_among(part, drawn)
                    losses[start : start + len(part), group] = found.cpu()
        return losses

    def _losses(self, prefixes: Interaction) -> torch.Tensor:
        """Cross entropy of each row's target among all items, with the table in use, ``[n]``."""
        scores = self._score_all(prefixes)  # [n, n_items]
        scores[:, 0] = -torch.inf  # padding
        return F.cross_entropy(scores, prefixes[self.ITEM_ID], reduction="none")

    def _losses_among(self, prefixes: Interaction, drawn: torch.Tensor) -> torch.Tensor:
        """The same, estimated from the items ``drawn [m]``."""
        outputs = self.forward(prefixes[self.ITEM_SEQ], prefixes[self.ITEM_SEQ_LEN])  # [n, d]
        return self._among(outputs, self.item_tower.weight, prefixes[self.ITEM_ID], drawn)

    def _content_losses(self, prefixes: Interaction, drawn: torch.Tensor) -> torch.Tensor:
        """The same of the content term as in training, with its table in use, ``[n]``."""
        table, (temperature, decay) = self.item_tower.content_term.learnt_table, self.item_tower.content_term.softness
        queries = profiles(table, self._histories(prefixes), decay) / temperature  # [n, d]
        return self._among(queries, table, prefixes[self.ITEM_ID], drawn)

    def _among(
        self, queries: torch.Tensor, table: torch.Tensor, targets: torch.Tensor, drawn: torch.Tensor
    ) -> torch.Tensor:
        """Cross entropy of ``targets [n]``, scored by products with ``table [n_items, d]``, among the items drawn."""
        own = (queries * table[targets]).sum(dim=1, keepdim=True)  # [n, 1]
        others = (queries @ table[drawn].T).masked_fill_(drawn == targets[:, None], -torch.inf)  # [n, m]
        return loss_among(own, others, self.n_items - 1)

    def _drawn_items(self, by_content: bool) -> torch.Tensor | None:
        """What purchases are compared with, sorted ``[m]``; None: all items by the backbone's own scores."""
        if not by_content and not (self.shares_passes and self.n_items - 1 > MOST_COMPARED):
            return None
        number, generator = DRAWN_BY_CONTENT if by_content else DRAWN, torch.Generator().manual_seed(0)
        # the same for all trainings and processes
        return (1 + torch.randperm(self.n_items - 1, generator=generator)[:number]).sort().values.to(self.device)

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
        found = Purchases.of(histories)
        sequences = F.pad(found.histories, (0, histories.shape[1] - found.histories.shape[1]))  # [prefixes, length]
        fields = {self.USER_ID: users[found.row_of], self.ITEM_SEQ: sequences, self.ITEM_ID: found.targets}
        return Interaction({**fields, self.ITEM_SEQ_LEN: (sequences > 0).sum(dim=1)}), found.row_of

    def _reading(self, prefixes: Interaction) -> AbstractContextManager:
        """While ``prefixes`` are read; nothing to do for backbones that read each by itself."""
        return nullcontext()
