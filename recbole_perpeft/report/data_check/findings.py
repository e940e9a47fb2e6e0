"""What a check has found: figures in sections, and problems of two kinds."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from recbole_perpeft.utils.errors import PerPEFTError


class Problem(NamedTuple):
    """An error ends a run, a warning does not; the text says what to do."""

    kind: Literal["error", "warning"]
    text: str


class SampleItem(NamedTuple):
    """An item to look at."""

    item_id: str
    text: str
    picture: Path | None


@dataclass
class Findings:
    """Figures and problems, in the order in which they were found.

    Attributes
    ----------
    title : str
        Of what.
    sections : dict[str, list of (str, str)]
        Name of a section to its figures: what it is, which is empty where it goes on, and the figure in words.
    problems : list of Problem
        Each once.
    lengths : dict[str, list of int]
        What is shown as histograms, by what is counted.
    sample : list of SampleItem
        Some items.
    """

    title: str
    sections: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    lengths: dict[str, list[int]] = field(default_factory=dict)
    sample: list[SampleItem] = field(default_factory=list)

    def add(self, section: str, name: str, text: str) -> None:
        """Add a figure."""
        self.sections.setdefault(section, []).append((name, text))

    def error(self, text: str) -> None:
        """Add an error."""
        self._say("error", text)

    def warn(self, text: str) -> None:
        """Add a warning."""
        self._say("warning", text)

    def _say(self, kind: Literal["error", "warning"], text: str) -> None:
        if Problem(kind, text) not in self.problems:
            self.problems.append(Problem(kind, text))

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Take an error of the input for a problem, so that others are found too."""
        try:
            yield
        except PerPEFTError as error:
            self.error(str(error))

    def number(self, kind: Literal["error", "warning"], about: str = "") -> int:
        """How many problems of a kind there are, whose text begins with ``about``."""
        return sum(problem.kind == kind and problem.text.startswith(about) for problem in self.problems)
