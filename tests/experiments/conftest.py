"""Fixtures of runs and comparisons."""

from tests.runs import at_once, common  # noqa: F401
