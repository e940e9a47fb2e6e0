"""Which cells of a matrix the fast tests take; the others are marked slow and run with ``-m slow``."""

import pytest


def slow(*values):
    """A cell of the slow set."""
    return pytest.param(*values, marks=pytest.mark.slow)


def quickly(cells, quick):
    """All ``cells``, those that are not in ``quick`` as slow ones."""
    unknown = [cell for cell in quick if cell not in cells]
    if unknown:
        raise ValueError(f"{unknown} are no cells of this matrix.")
    return [cell if cell in quick else slow(*cell) if isinstance(cell, tuple) else slow(cell) for cell in cells]
