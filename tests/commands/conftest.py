"""Fixtures of runs and comparisons."""

from tests.runs import at_once, common, in_this_process  # noqa: F401
