"""Reading all prefixes of a user in one pass, for backbones in which nothing depends on what comes later."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from recbole.data.interaction import Interaction

from recbole_perpeft.data.sequence_windows import shared_passes
from recbole_perpeft.data.user_batch import UserBatch

_PARTS = 4  # of the rows of an evaluation's block, by their lengths


class CausalMixin:
    """For backbones that gather their output from one for each position, which depends on nothing that comes later.

    All prefixes of a user are then read from one pass over the longest of them, and nothing is computed of the padding
    that is longer than the longest of some sequences.
    """

    shares_passes = True
    _passes: tuple[torch.Tensor, torch.Tensor] | None = None  # as in UserBatch: passes, pass_of

    def calculate_loss(self, batch: UserBatch) -> torch.Tensor:
        """As :meth:`PerPEFTMixin.calculate_loss`."""
        with self._by(batch.passes, batch.pass_of):
            return super().calculate_loss(batch)

    def forward(self, item_seq: torch.Tensor, item_seq_len: torch.Tensor) -> torch.Tensor:
        """Representation of each sequence ``[n, length]``, ``[n, hidden_size]``."""
        if self._passes is None:
            return super().forward(item_seq, item_seq_len) if self.training else self._in_parts(item_seq, item_seq_len)
        self._lengths = item_seq_len  # [n]
        passes, _ = self._passes
        item_seq, item_seq_len = item_seq[passes], item_seq_len[passes]
        if not self.training:
            item_seq = item_seq[:, : int(item_seq_len.max())]
        return super().forward(item_seq, item_seq_len)

    def _in_parts(self, item_seq: torch.Tensor, item_seq_len: torch.Tensor) -> torch.Tensor:
        """As :meth:`forward`, of sequences of similar lengths at a time, each as long as the longest of them."""
        lengths, order = item_seq_len.cpu().sort(stable=True)
        outputs = []
        for rows, longest in zip(order.tensor_split(_PARTS), lengths.tensor_split(_PARTS), strict=True):
            if len(rows):
                own = rows.to(item_seq.device)
                outputs.append(super().forward(item_seq[own, : int(longest[-1])], item_seq_len[own]))
        outputs = torch.cat(outputs)  # [n, hidden_size]
        return torch.empty_like(outputs).index_copy_(0, order.to(outputs.device), outputs)

    def gather_indexes(self, output: torch.Tensor, gather_index: torch.Tensor) -> torch.Tensor:
        """The output ``[n, hidden_size]`` at the end of each sequence, of ``[passes, length, hidden_size]``."""
        if self._passes is None:
            return super().gather_indexes(output, gather_index)
        return output[self._passes[1], self._lengths - 1]

    def _reading(self, prefixes: Interaction) -> AbstractContextManager:
        users, lengths = (prefixes[field].cpu().numpy() for field in (self.USER_ID, self.ITEM_SEQ_LEN))
        return self._by(*(torch.from_numpy(rows).to(self.device) for rows in shared_passes(users, lengths)))

    @contextmanager
    def _by(self, passes: torch.Tensor, pass_of: torch.Tensor) -> Iterator[None]:
        self._passes = passes, pass_of
        try:
            yield
        finally:
            self._passes = None
