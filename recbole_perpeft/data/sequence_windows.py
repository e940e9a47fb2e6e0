"""Where the sequences of a user with many purchases begin, so that one pass over a sequence serves many targets."""

import numpy as np

_AT_ONCE = 2**16  # sequences that are compared


def shared_passes(owner: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows ``[passes]`` whose sequences hold those of all rows as their beginnings, and which of them does, ``[n]``.

    Successive rows of a user, one item longer each, have one beginning.
    """
    goes_on = np.zeros(len(owner), dtype=bool)
    goes_on[1:] = (owner[1:] == owner[:-1]) & (lengths[1:] == lengths[:-1] + 1)
    return np.flatnonzero(~np.r_[goes_on[1:], False]), np.cumsum(~goes_on) - 1


def left_out(owner: np.ndarray, sequences: np.ndarray, lengths: np.ndarray, stride: int) -> np.ndarray:
    """How many of its oldest items each row's sequence is to do without, so that few beginnings serve many rows.

    At ``MAX_ITEM_LIST_LENGTH`` sequences stop growing: each begins one item later than the one before it, and no pass
    serves two. Here they begin at every ``stride``-th item only, the next one later than their own.

    Parameters
    ----------
    owner
        User of each row, ``[n]``; a user's rows follow each other in time.
    sequences
        Item ids before each row's target, oldest first, ``[n, MAX_ITEM_LIST_LENGTH]``, padded with zeros.
    lengths
        ``[n]``.
    stride
        From 1, where nothing is left out, to ``MAX_ITEM_LIST_LENGTH``.

    Returns
    -------
    numpy.ndarray
        ``[n]``, less than ``stride`` each.
    """
    full = lengths == sequences.shape[1]
    moves_on = np.zeros(len(owner), dtype=bool)  # whether a row's sequence is that of the row before, one item later
    (rows,) = np.nonzero(full[1:] & full[:-1] & (owner[1:] == owner[:-1]))
    for some in np.split(rows, range(_AT_ONCE, len(rows), _AT_ONCE)):
        moves_on[some + 1] = (sequences[some + 1, :-1] == sequences[some, 1:]).all(axis=1)
    places = np.arange(len(owner))
    first = np.maximum.accumulate(np.where(moves_on, 0, places))  # where each row's run of such rows begins
    return -(places - first) % stride


def without_oldest(sequences: np.ndarray, number: np.ndarray) -> np.ndarray:
    """``sequences [n, length]`` without their ``number [n]`` oldest items, padded with zeros at the end."""
    at = np.arange(sequences.shape[1]) + number[:, None]  # [n, length]
    there = at < sequences.shape[1]
    return np.where(there, np.take_along_axis(sequences, np.where(there, at, 0), axis=1), 0)
