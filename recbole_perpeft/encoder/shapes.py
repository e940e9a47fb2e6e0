"""Shapes that come again from step to step: for each new one a GPU looks for kernels and memory anew."""

from collections.abc import Sequence

import numpy as np

LENGTH_STEP = 8  # lengths of texts are rounded up to a multiple of this
_SIZES_PER_OCTAVE = 16  # a batch grows by less than a sixteenth
_MORE_TOKENS = 1.03  # that fewer lengths may cost, in times of the tokens of all steps


def repeated_size(n: int) -> int:
    """The size to which a batch of ``n`` items is filled up: one of 16 between two powers of two."""
    step = max(1, 2 ** (n - 1).bit_length() // (2 * _SIZES_PER_OCTAVE))
    return -(-n // step) * step


def length_edges(lengths: np.ndarray) -> list[int]:
    """The lengths at which texts run: as few as cost at most 3 % more tokens than every multiple of the step would.

    Parameters
    ----------
    lengths
        Tokens of each text of the catalogue, int ``[n]``.

    Returns
    -------
    list of int
        Rising multiples of :data:`LENGTH_STEP`. A text runs at the first that it fits into.
    """
    steps, numbers = np.unique(-(-np.maximum(lengths, 1) // LENGTH_STEP), return_counts=True)  # [s] each
    least = int(steps @ numbers)
    for number in range(1, len(steps)):
        cost, edges = _best_edges(steps, numbers, number)
        if cost <= _MORE_TOKENS * least:
            return [int(steps[edge]) * LENGTH_STEP for edge in edges]
    return (steps * LENGTH_STEP).tolist()


def _best_edges(steps: np.ndarray, numbers: np.ndarray, number: int) -> tuple[int, Sequence[int]]:
    """The least total of padded steps with ``number`` edges, and the edges, as positions in ``steps``."""
    upto = np.r_[0, np.cumsum(numbers)]
    # best[j]: of the texts of the first j steps, the last of which is an edge
    best: list[tuple[int, tuple[int, ...]] | None] = [(0, ()), *[None] * len(steps)]
    for _ in range(number):
        best = [None] + [
            min(
                (
                    (before[0] + int(steps[j - 1] * (upto[j] - upto[i])), (*before[1], j - 1))
                    for i, before in enumerate(best[:j])
                    if before is not None
                ),
                default=None,
            )
            for j in range(1, len(steps) + 1)
        ]
    return best[-1]
