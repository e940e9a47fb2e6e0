"""Counts and times of a service, in the text format of Prometheus."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32)


class Histogram:
    """How many values are at most as large as each bound."""

    def __init__(self, bounds: tuple[float, ...]):
        self.bounds, self.total = bounds, 0.0
        self._counts = [0] * (len(bounds) + 1)

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str, labels: str) -> list[str]:
        """In the text format; ``labels`` stand in braces, without them."""
        counted, found, more = 0, [], f"{labels}," if labels else ""
        for bound, count in zip((*map(repr, self.bounds), "+Inf"), self._counts, strict=True):
            counted += count
            found.append(f'{name}_bucket{{{more}le="{bound}"}} {counted}')
        braces = f"{{{labels}}}" if labels else ""
        return [*found, f"{name}_sum{braces} {self.total!r}", f"{name}_count{braces} {counted}"]


class Metrics:
    """What a service has done since it began; of the event loop alone.

    Attributes
    ----------
    sizes : Histogram
        Lists that were computed together.
    reloads : collections.Counter
        By what came of them.
    """

    def __init__(self):
        self.sizes, self.reloads = Histogram(_SIZES), Counter(opened=0, refused=0)
        self._answers: Counter = Counter()
        self._seconds: dict[str, Histogram] = {}

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count an answer; ``path`` is a route's, of which there are few."""
        self._answers[path, status] += 1
        self._seconds.setdefault(path, Histogram(_SECONDS)).add(seconds)

    def text(self, gauges: Mapping[str, tuple[str, float]]) -> str:
        """All in the text format, with what is so now: ``gauges``, each its help and its value."""
        lines = _head("requests_total", "counter", "Requests that were answered, by path and status.")
        for (path, status), count in sorted(self._answers.items()):
            lines.append(f'recbole_perpeft_requests_total{{path="{path}",status="{status}"}} {count}')
        lines += _head("request_seconds", "histogram", "From a request's first byte to the last of its answer.")
        for path, seconds in sorted(self._seconds.items()):
            lines += seconds.lines("recbole_perpeft_request_seconds", f'path="{path}"')
        lines += _head("lists_together", "histogram", "Requests for lists that were computed together.")
        lines += self.sizes.lines("recbole_perpeft_lists_together", "")
        lines += _head("reloads_total", "counter", "Bundles that were to take the place of another.")
        for result, count in sorted(self.reloads.items()):
            lines.append(f'recbole_perpeft_reloads_total{{result="{result}"}} {count}')
        for name, (words, value) in gauges.items():
            lines += [*_head(name, "gauge", words), f"recbole_perpeft_{name} {value}"]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, words: str) -> list[str]:
    return [f"# HELP recbole_perpeft_{name} {words}", f"# TYPE recbole_perpeft_{name} {kind}"]
