"""All checks of a data set, in an order in which one that fails does not hide the others."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recbole.utils import ModelType

from recbole_perpeft.config import Config
from recbole_perpeft.config.atomic_files import check_header, check_lines
from recbole_perpeft.config.evaluation_settings import check_topk_fits
from recbole_perpeft.config.registry import reads_content
from recbole_perpeft.data.preparation import check_folder, create_dataset, data_preparation
from recbole_perpeft.model.tower_factory import given_features
from recbole_perpeft.report.data_check.contents import (
    check_items,
    check_pictures,
    check_texts,
    open_readers,
    sample_of,
)
from recbole_perpeft.report.data_check.findings import Findings
from recbole_perpeft.report.data_check.purchases import Purchases, describe, read_purchases


def check_data(config: Config) -> Findings:
    """What is in the data set of ``config``, and what would go wrong in a run with these settings.

    Purchases are filtered and split as a run does it. Pictures are opened and texts counted in tokens, where the model
    reads them; no weights of the encoder are loaded and nothing is written.
    """
    findings = Findings(f"{config['dataset']} in {config['data_path']}, for {config['model']}")
    for remark in config.remarks:
        findings.warn(remark)
    is_there = False
    with findings.caught():
        is_there = check_folder(config).is_dir()
    if not is_there:
        return findings
    purchases = _purchases(config, findings)
    ranked = _as_a_run(config, findings)
    bought = purchases.item_ids if purchases else []
    rows = check_items(config, bought, findings)
    if not reads_content(config.model_class):
        findings.add("Titles and pictures", "not read", f"{config['model']} reads purchases alone")
        return findings
    item_ids = ranked or list(bought)
    if config["item_features"]:
        findings.add("Titles and pictures", "not read", "item_features are given")
        if item_ids:
            with findings.caught():
                given_features(config, ["[PAD]", *item_ids], 1)
        return findings
    readers = open_readers(config, findings)
    if not item_ids:
        return findings
    texts = (
        check_texts(config, item_ids, rows, readers.get("text"), findings) if "text" in config["modalities"] else None
    )
    paths = check_pictures(config, item_ids, rows, findings) if "image" in config["modalities"] else None
    findings.sample = sample_of(config, item_ids, texts, paths)
    return findings


def _purchases(config: Config, findings: Findings) -> Purchases | None:
    """Describe the purchases as they are in the files."""
    parts = config["benchmark_filename"]
    names = [f"{config['dataset']}.inter"] if parts is None else [f"{config['dataset']}.{part}.inter" for part in parts]
    files = [Path(config["data_path"]) / name for name in names]
    if not all(file.is_file() for file in files):
        return None  # which the next step reports
    for file in files:
        with findings.caught():
            check_header(file, config)
            check_lines(file, config)
    with findings.caught():
        purchases = read_purchases(files, config)
        longest = config["MAX_ITEM_LIST_LENGTH"] if config["MODEL_TYPE"] == ModelType.SEQUENTIAL else None
        describe(purchases, findings, f"Purchases ({', '.join(names)})", longest)
        return purchases
    return None


def _as_a_run(config: Config, findings: Findings) -> list[str]:
    """Filter and split as a run does; gives the ids of the items that it ranks, none where it would fail."""
    with findings.caught(), _short_lists(config), _heard() as said:
        try:
            dataset = create_dataset(config)
            check_topk_fits(config, dataset)
            data_preparation(config, dataset)
        finally:
            for number, record in enumerate(said):
                text = record.getMessage()
                findings.add("As a run reads them", "" if number else "the log says", text)
                if record.levelno >= logging.WARNING:
                    findings.warn(text)
        return [str(token) for token in dataset.field2id_token[dataset.iid_field][1:]]
    return []


@contextmanager
def _short_lists(config: Config) -> Iterator[None]:
    """Let a user's history be one item: how purchases are split does not depend on it, but memory does."""
    given = config["MAX_ITEM_LIST_LENGTH"]
    config["MAX_ITEM_LIST_LENGTH"] = given and 1
    try:
        yield
    finally:
        config["MAX_ITEM_LIST_LENGTH"] = given


@contextmanager
def _heard() -> Iterator[list[logging.LogRecord]]:
    """What this package logs of the data, in place of the log."""
    records: list[logging.LogRecord] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.INFO and Path(record.pathname).parent.name in ("data", "config"):
                records.append(record)

    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    root.handlers = [Listener()]
    root.setLevel(logging.INFO)
    try:
        yield records
    finally:
        root.handlers = handlers
        root.setLevel(level)
