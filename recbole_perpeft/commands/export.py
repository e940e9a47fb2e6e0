"""``python -m recbole_perpeft export``: a bundle from a checkpoint."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from recbole_perpeft.config.settings import settings_of
from recbole_perpeft.serving.bundle import write_bundle
from recbole_perpeft.utils.errors import BundleError

DESCRIPTION = """Write what a run has trained as a bundle: a folder without a pickle, from which it is opened without
its data, its checkpoint and the foundation model.

  python -m recbole_perpeft export saved/MODEL.pth --out bundles/MODEL
  python -m recbole_perpeft export saved/MODEL.pth --out bundles/MODEL --metrics metrics.json

A bundle that is there is replaced. It holds the ids and purchases of all users. Settings that have changed since the
training, such as a moved data_path, are given as --key=value."""

_PARTS = {"best_valid_result": "validation", "test_result": "test", "validation": "validation", "test": "test"}


def main(arguments: Sequence[str]) -> int:
    """The command line."""
    known, words = _parser().parse_known_args(arguments)
    metrics = read_metrics(known.metrics) if known.metrics else None
    written = write_bundle(known.checkpoint, known.out, settings_of(words), metrics)
    size = sum(file["size"] for file in written["files"].values())
    print(f"Written: {known.out}, {len(written['files'])} files, {size:,} bytes")
    return 0


def read_metrics(file: Path) -> dict[str, dict[str, float]]:
    """Metrics of the validation and the test, from a JSON file: what ``run`` returns, or ``validation`` and ``test``.

    Raises
    ------
    BundleError
        If it cannot be read, or holds no metrics.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"--metrics: {file} cannot be read: {error}") from error
    parts = {_PARTS[key]: found[key] for key in _PARTS if key in found} if isinstance(found, dict) else {}
    if not parts or not all(_are_metrics(values) for values in parts.values()):
        raise BundleError(
            f"--metrics: {file} holds no metrics: write them as {{'validation': {{'ndcg@10': 0.1}}, 'test': …}}, "
            "or give what run() returned."
        )
    return parts


def _are_metrics(values: object) -> bool:
    return isinstance(values, dict) and all(isinstance(value, int | float) for value in values.values())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m recbole_perpeft export", description=DESCRIPTION, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("checkpoint", type=Path, help="of a PerPEFT model or one of RecBole's")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the bundle goes")
    parser.add_argument("--metrics", type=Path, metavar="FILE", help="JSON with the metrics for the card")
    return parser
