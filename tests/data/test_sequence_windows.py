"""Sequences that begin together, so that one pass serves many targets."""

import numpy as np
import pytest

from recbole_perpeft.data.sequence_windows import left_out, shared_passes, without_oldest

LENGTH = 6


def rows_of(purchases: list[int], user: int) -> list[tuple[int, list[int], int]]:
    """User, sequence and length of each target of ``purchases``, as RecBole augments them."""
    rows = []
    for at in range(1, len(purchases)):
        last = purchases[max(0, at - LENGTH) : at]
        rows.append((user, last + [0] * (LENGTH - len(last)), len(last)))
    return rows


def arrays(rows: list[tuple[int, list[int], int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    users, sequences, lengths = zip(*rows, strict=True)
    return np.array(users), np.array(sequences), np.array(lengths)


@pytest.mark.parametrize("stride", [1, 2, 3, 6])
def test_each_target_sees_what_fits_between_its_pass_beginning_and_itself(stride) -> None:
    long, short = list(range(101, 124)), [7, 8, 9]
    owner, sequences, lengths = arrays(rows_of(long, 0) + rows_of(short, 1))
    number = left_out(owner, sequences, lengths, stride)
    read, read_lengths = without_oldest(sequences, number), lengths - number

    passes, pass_of = shared_passes(owner, read_lengths)
    starts = set()
    for row, (sequence, length) in enumerate(zip(read, read_lengths, strict=True)):
        purchases, at = (long, row + 1) if owner[row] == 0 else (short, row - len(long) + 2)
        assert sequence[:length].tolist() == purchases[at - length : at]
        assert not sequence[length:].any()
        assert length == min(at, LENGTH) or LENGTH - stride < length <= LENGTH
        assert read[passes[pass_of[row]]][:length].tolist() == sequence[:length].tolist()
        starts.add((owner[row], at - length))
    assert len(passes) == len(starts)
    targets_beyond = len(long) - 1 - LENGTH  # those that do not see all that came before
    assert len(passes) == 2 + -(-targets_beyond // stride)


def test_rows_that_do_not_follow_each_other_begin_apart() -> None:
    owner, sequences, lengths = arrays(rows_of(list(range(1, 20)), 0))
    kept = np.delete(np.arange(len(owner)), 10)  # such as the purchase of an item that is held back
    owner, sequences, lengths = owner[kept], sequences[kept], lengths[kept]
    number = left_out(owner, sequences, lengths, 4)
    read, read_lengths = without_oldest(sequences, number), lengths - number
    passes, pass_of = shared_passes(owner, read_lengths)
    for row, length in enumerate(read_lengths):
        assert read[passes[pass_of[row]]][:length].tolist() == read[row][:length].tolist()


def test_a_users_sequences_are_no_others() -> None:
    same = list(range(1, 12))
    owner, sequences, lengths = arrays(rows_of(same, 0) + rows_of(same, 1))
    number = left_out(owner, sequences, lengths, 3)
    assert number[:10].tolist() == number[10:].tolist() == [0, 0, 0, 0, 0, 0, 2, 1, 0, 2]
