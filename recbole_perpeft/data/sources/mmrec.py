"""Data sets of MMRec (Zhou, arXiv:2302.03497): purchases with the part that each is in, and features of the items.

``<name>.inter`` has the columns ``userID``, ``itemID``, ``x_label`` (0 trains, 1 validates, 2 tests) and mostly
``rating`` and ``timestamp``. An item's number is its row in ``image_feat.npy`` and ``text_feat.npy``.
"""

import argparse
from logging import getLogger
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_perpeft.data.sources.atomic import whole_copy, write_items, write_purchases, write_settings
from recbole_perpeft.data.sources.purchases import PurchaseCollector, Purchases, filtered
from recbole_perpeft.data.sources.source import OUT, Argument, Source, in_out, name_of
from recbole_perpeft.data.sources.tables import numbers, read_table, texts
from recbole_perpeft.utils.errors import DataError

FEATURES = {"image": "image_feat.npy", "text": "text_feat.npy"}
PARTS = ("train", "valid", "test")


def prepare(options: argparse.Namespace, folder: Path) -> Path:
    """Write the data set into ``folder``; gives its file of settings.

    Raises
    ------
    DataError
        If a file is missing or damaged, or an item has no row of features.
    """
    inter = options.folder / f"{options.dataset}.inter"
    kept = ["x_label"] if options.keep_split else []
    purchases = filtered(_purchases(inter, kept), inter, repeats=True)
    files = {kind: file for kind, file in FEATURES.items() if (options.folder / file).is_file()}
    if not files:
        raise DataError(f"{options.folder} has neither {' nor '.join(FEATURES.values())}: features are what it is for.")
    rows = {kind: _rows(options.folder / file) for kind, file in files.items()}
    number = min(rows.values())
    if max(rows.values()) != number:
        raise DataError(
            f"{' and '.join(files.values())} of {options.folder} have {rows} rows: they have to be as many."
        )
    rows_of = set(map(str, range(number)))  # as the .item file has them: 01 is none
    outside = [item for item in purchases.bought() if item not in rows_of]
    if outside:
        raise DataError(f"{inter}: item {outside[0]!r} has no row in the features, which are of {number:,} items.")
    settings = {"peft_type": "NONE", "item_features": files}
    settings |= {"modalities": list(files)} if len(files) < len(FEATURES) else {}
    settings |= _write_parts(folder, purchases) if options.keep_split else _write_whole(folder, purchases)
    write_items(folder, [], ((str(item), []) for item in range(number)))  # a row of features each, in this order
    for file in files.values():
        whole_copy(options.folder / file, folder / file)
    return write_settings(folder, settings, NAME)


def _write_whole(folder: Path, purchases: Purchases) -> dict[str, object]:
    write_purchases(folder, purchases)
    if "timestamp" in purchases.values:
        return {}
    getLogger().warning("There are no times: purchases are split by chance, for general models.")
    return {"model": _GENERAL, "eval_args": {"order": "RO"}}


def _write_parts(folder: Path, purchases: Purchases) -> dict[str, object]:
    part = purchases.values.pop("x_label")
    if not np.isin(part, range(len(PARTS))).all():
        raise DataError(f"x_label of {folder.name} has other values than 0, 1 and 2: {np.unique(part)[:5].tolist()}.")
    for number, name in enumerate(PARTS):
        if not (part == number).any():
            raise DataError(
                f"--keep_split: no purchase is in the part {name!r} (x_label {number}), which a run needs. Leave "
                "--keep_split out: purchases are split by eval_args then."
            )
    for number, name in enumerate(PARTS):
        write_purchases(folder, purchases.take(part == number), name)
    return {"model": _GENERAL, "benchmark_filename": list(PARTS)}


def _purchases(path: Path, columns: list[str]) -> Purchases:
    rows = read_table(path, ["userID", "itemID", *columns])
    others = [name for name in ("timestamp", "rating") if name in _header(path)]
    rows = rows.join(read_table(path, others)) if others else rows
    values = {name: _whole(numbers(path, rows[name], name)) for name in [*others, *columns]}
    taken = PurchaseCollector({name: column.dtype.type for name, column in values.items()})
    taken.add(texts(rows["userID"]), texts(rows["itemID"]), **values)
    return taken.purchases()


def _header(path: Path) -> list[str]:
    return list(pd.read_csv(path, sep="\t", nrows=0, encoding="utf-8-sig").columns)


def _whole(column: np.ndarray) -> np.ndarray:
    return column.astype(np.int64) if not (column % 1).any() else column


def _rows(path: Path) -> int:
    try:
        features = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
    if features.ndim != 2 or not np.issubdtype(features.dtype, np.floating):
        raise DataError(f"{path} has shape {features.shape} of {features.dtype}: a row of numbers an item is expected.")
    return len(features)


_GENERAL = "PerPEFTLightGCN"
NAME = "mmrec"
SOURCE = Source(
    NAME,
    "data sets of MMRec, with its frozen features",
    "`<dataset>.inter` (`userID`, `itemID`, `x_label`, perhaps `rating` and `timestamp`) and `image_feat.npy` or "
    "`text_feat.npy` or both, a row an item",
    (
        Argument("FOLDER", "folder of the files", {"type": Path}),
        Argument("DATASET", "what the .inter file is called, such as baby"),
        OUT,
        name_of("DATASET"),
        Argument("--keep_split", "keep MMRec's split, for general models (default: split by eval_args)",
                 {"action": "store_true"}),
    ),
    in_out(lambda options: options.dataset),
    prepare,
)  # fmt: skip
