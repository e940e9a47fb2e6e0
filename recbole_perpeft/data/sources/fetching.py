"""Downloading the pictures of a data set whose addresses were written with it: the source ``pictures``."""

import argparse
from contextlib import suppress
from logging import getLogger
from pathlib import Path

import yaml

from recbole_perpeft.data.sources.atomic import IMAGES, URLS, bought_items, read_urls, write_settings
from recbole_perpeft.data.sources.source import Argument, Source
from recbole_perpeft.utils.errors import DataError

_SHOWN = 5


def fetch_pictures(folder: Path) -> Path:
    """Download what ``<name>.urls.tsv`` names into ``images/``, and tell the settings of it; gives their file.

    Pictures that are there are not fetched again, so the same command goes on where it was stopped.

    Raises
    ------
    DataError
        If the addresses or the settings cannot be read, or no picture could be had.
    """
    from recbole_perpeft.content.downloads import download_pictures

    urls, settings = read_urls(folder), _settings(folder)
    try:
        report = download_pictures(urls, folder / IMAGES)
    finally:
        with suppress(OSError):  # something is in it
            (folder / IMAGES).rmdir()
    if not report.files:
        reason = next(iter(report.failed.values()), "there are no addresses")
        raise DataError(f"No picture of {folder.name} could be downloaded: {reason}. Look at {folder.name}.urls.tsv.")
    if report.failed:
        shown = "; ".join(f"{item}: {reason}" for item, reason in list(report.failed.items())[:_SHOWN])
        getLogger().warning(f"{len(report.failed):,} of {len(urls):,} pictures could not be downloaded: {shown}")
    settings.pop("modalities", None)
    if not settings.get("text_fields"):
        settings["modalities"] = ["image"]
    lacking = len(bought_items(folder)) > len(report.files)
    neutral = {"missing_content": "neutral"} if lacking else {}
    return write_settings(folder, {**settings, "image_dir": IMAGES, **neutral}, "pictures")


def prepare(options: argparse.Namespace, folder: Path) -> Path:
    """As :func:`fetch_pictures`, for the data set that was prepared before."""
    return fetch_pictures(folder)


def _settings(folder: Path) -> dict:
    path = folder / f"{folder.name}.yaml"
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{path} cannot be read: {error}. Prepare the data set anew.") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} holds no settings. Prepare the data set anew.")
    return {key: value for key, value in found.items() if key not in ("dataset", "data_path")}


def _folder(options: argparse.Namespace) -> Path:
    folder = options.folder
    folder = folder.resolve() if folder.name in ("", "..") else folder  # its name is the data set's
    if not (urls := folder / f"{folder.name}{URLS}").is_file():  # before anything is written there
        raise DataError(f"{urls} does not exist. Give the folder of a data set that was prepared with addresses.")
    return folder


SOURCE = Source(
    "pictures",
    "pictures of a data set that was prepared without them",
    "`<name>.urls.tsv` in the data set's folder: on a line an item id and the addresses of its picture, the best first",
    (Argument("FOLDER", "the data set's folder, as prepared", {"type": Path}),),
    _folder,
    prepare,
)
