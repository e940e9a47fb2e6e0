"""Reading all prefixes of a user in one pass, for backbones in which nothing depends on what comes later."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from recbole.data.interaction import Interaction

from recbole_perpeft.data.sequence_windows import shared_passes
from recbole_perpeft.data.user_batch import UserBatch

_LEAST = 8  # positions that are read of any sequence
_PAIRS = 2**22  # of positions that attend to each other, of all sequences that are read together: 16 MB a head


def lengths_read(longest: int) -> Iterator[int]:
    """How many positions an evaluation reads of sequences, each of those that it does not hold and the one before does.

    Parameters
    ----------
    longest
        Positions of the longest sequence.
    """
    length = _LEAST
    while length < longest:
        yield length
        length *= 2
    yield longest


def _parts(lengths: torch.Tensor, longest: int) -> Iterator[tuple[torch.Tensor, int]]:
    """Which of some sequences of ``lengths [n]`` are read together, ``[some]``, and how many positions of them."""
    shorter = 0
    for length in lengths_read(longest):
        rows = ((lengths.clamp(min=1) > shorter) & (lengths <= length)).nonzero().squeeze(1)
        yield from ((some, length) for some in rows.split(max(1, _PAIRS // length**2)) if len(some))
        shorter = length


class CausalMixin:
    """For backbones that gather their output from one for each position, which depends on nothing that comes later.

    All prefixes of a user are then read from one pass over the longest of them, and an evaluation reads little of the
    padding.
    """

    shares_passes = True
    _passes: tuple[torch.Tensor, torch.Tensor] | None = None  # as in UserBatch: passes, pass_of

    def calculate_loss(self, batch: UserBatch) -> torch.Tensor:
        """As :meth:`PerPEFTMixin.calculate_loss`."""
        with self._by(batch.passes, batch.pass_of):
            return super().calculate_loss(batch)

    def forward(self, item_seq: torch.Tensor, item_seq_len: torch.Tensor) -> torch.Tensor:
        """Representation of each sequence ``[n, length]``, ``[n, hidden_size]``."""
        if not self.training:
            return self._in_parts(item_seq, item_seq_len)
        if self._passes is None:
            return super().forward(item_seq, item_seq_len)
        self._lengths = item_seq_len  # [n]
        passes, _ = self._passes
        return super().forward(item_seq[passes], item_seq_len[passes])

    def _in_parts(self, item_seq: torch.Tensor, item_seq_len: torch.Tensor) -> torch.Tensor:
        """As :meth:`forward`, of sequences of similar lengths at a time, without most of their padding.

        How much is read of a sequence depends on its own length alone, as its rounding does.
        """
        every = torch.arange(len(item_seq), device=item_seq.device)
        (passes, pass_of), outputs = self._passes or (every, every), None
        for some, longest in _parts(item_seq_len[passes].cpu(), item_seq.shape[1]):
            some = some.to(passes.device)
            place = torch.full_like(passes, -1)  # of each pass among these
            place[some] = every[: len(some)]
            rows = (place[pass_of] >= 0).nonzero().squeeze(1)
            self._lengths = item_seq_len[rows]
            with self._by(passes[some], place[pass_of[rows]]):
                part = super().forward(item_seq[passes[some], :longest], item_seq_len[passes[some]])
            outputs = part.new_empty(len(every), part.shape[1]) if outputs is None else outputs
            outputs[rows] = part
        return outputs

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
        before, self._passes = self._passes, (passes, pass_of)
        try:
            yield
        finally:
            self._passes = before
