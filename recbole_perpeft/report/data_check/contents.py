"""The items' titles and pictures: how many there are, whether they open, and how much of a text is read."""

import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from recbole_perpeft.content.file_hashes import hash_files
from recbole_perpeft.content.found import (
    count_found,
    find_pictures,
    find_texts,
    place_of_pictures,
    place_of_texts,
    repeated_picture,
    repeated_texts,
    shown,
)
from recbole_perpeft.content.item_file import read_item_texts
from recbole_perpeft.content.picture_files import listing
from recbole_perpeft.content.pictures import UnreadablePicture, open_picture
from recbole_perpeft.content.texts import check_template
from recbole_perpeft.content.unusable_pictures import UnusablePicture, report
from recbole_perpeft.encoder.foundation.model_folder import quiet_transformers
from recbole_perpeft.model.tower_factory import image_reader_of, text_reader_of
from recbole_perpeft.report.data_check.findings import Findings, SampleItem
from recbole_perpeft.utils.cores import n_cores
from recbole_perpeft.utils.errors import ContentError

_CHUNK = 2048  # texts per call of the tokenizer
_SAMPLE = 24


def check_items(config, bought: Sequence[str], findings: Findings) -> dict[str, dict[str, str]]:
    """Read the ``.item`` file, and hold its ids against those that were bought.

    Returns
    -------
    dict
        Item id -> column -> value, of the columns that the encoder needs; empty where the file is not there, not needed
        or cannot be read.
    """
    file, modalities = _item_file(config), config["modalities"] or ()
    if config["item_features"]:  # in place of texts and pictures
        modalities = ()
    fields = list(config["text_fields"]) if "text" in modalities else []
    if "image" in modalities and config["image_field"]:
        fields.append(config["image_field"])
    if not fields and not file.is_file():
        return {}
    try:
        rows = read_item_texts(
            file,
            config["ITEM_ID_FIELD"],
            fields,
            encoding=config["encoding"] or "utf-8",
            separator=config["field_separator"],
        )
    except ContentError as error:
        (findings.error if fields else findings.warn)(str(error))
        return {}
    section = f"Items ({file.name})"
    absent = [item_id for item_id in bought if item_id not in rows]
    extra = len(rows) - (len(bought) - len(absent))
    findings.add(section, "lines", f"{len(rows):,}")
    findings.add(section, "bought, without a line", _few(absent, len(bought)))
    findings.add(section, "never bought", f"{extra:,} of {len(rows):,}")
    if rows and bought and len(absent) == len(bought):
        (findings.error if fields else findings.warn)(
            f"No item of the purchases ({shown(absent)}) has a line in {file} ({shown(list(rows))}): the ids are "
            "not the same. Write them alike."
        )
    return rows


def open_readers(config, findings: Findings) -> dict[str, Any]:
    """What reads the content for the encoder, by modality, where it can be loaded; the weights are not.

    Of texts the tokenizer and the tokens that are read, of pictures the image processor.
    """
    readers: dict[str, Any] = {}
    two_encoders = config["image_encoder"] or config["text_encoder"]
    for modality, load in (("text", text_reader_of), ("image", image_reader_of)):
        if modality in config["modalities"] and (two_encoders or not findings.number("error", "encoder:")):
            with findings.caught():
                readers[modality] = load(config)
    return readers


def check_texts(
    config, item_ids: Sequence[str], rows: dict, reader: tuple | None, findings: Findings
) -> list[str] | None:
    """Titles that are missing, repeated or cut; gives the items' texts, None where there are none to read.

    Parameters
    ----------
    reader
        Of :func:`open_readers`.
    """
    fields, section = config["text_fields"], "Titles"
    texts = None
    with findings.caught():
        check_template(config["text_template"], fields)
        texts = find_texts(item_ids, rows, fields, config["text_template"])
    if texts is None or not rows:
        return None
    findings.add(section, "missing", _few([i for i, text in zip(item_ids, texts, strict=True) if not text], len(texts)))
    findings.add(section, "like another item's", f"{_alike(texts):,} of {len(texts):,}")
    with findings.caught():
        place = place_of_texts(_item_file(config), fields)
        count_found(item_ids, texts, "text", place, config["missing_content"])
    if remark := repeated_texts(texts):
        findings.warn(remark)
    if reader is not None:
        tokenizer, longest = reader
        lengths = _lengths(tokenizer, texts, config["show_progress"])
        cut = int((lengths > longest).sum())
        findings.add(
            section, "tokens", f"{lengths.min():,} to {lengths.max():,}, median {np.median(lengths):g}; {cut:,} of "
            f"{len(texts):,} are cut at {longest}"
        )  # fmt: skip
        findings.lengths["tokens of a text"] = lengths.tolist()
        if cut > len(texts) / 10:
            findings.warn(
                f"{cut:,} of {len(texts):,} texts are longer than the {longest} tokens that are read "
                "(max_text_length): what is behind is not seen. Put the columns that matter first in text_fields."
            )
    return texts


def check_pictures(config, item_ids: Sequence[str], rows: dict, findings: Findings) -> list[Path | None] | None:
    """Pictures that are missing, repeated or cannot be opened; gives the items' files, None where there is no place."""
    folder, section = Path(config["data_path"]), "Pictures"
    field, image_dir = config["image_field"], config["image_dir"]
    paths: list[Path | None] | None = None
    with findings.caught():
        paths = find_pictures(item_ids, rows, folder, field, image_dir)
    if paths is None:
        return None
    missing = [item_id for item_id, path in zip(item_ids, paths, strict=True) if path is None]
    findings.add(section, "missing", _few(missing, len(paths)))
    with findings.caught():
        place = place_of_pictures(_item_file(config), folder, field, image_dir)
        count_found(item_ids, paths, "image", place, config["missing_content"])
    if field is None:
        _check_folder(folder / image_dir, item_ids, paths, findings)
    there = [(item_id, path) for item_id, path in zip(item_ids, paths, strict=True) if path is not None]
    unusable, sizes = _open_all(there, config["show_progress"])
    findings.add(section, "cannot be opened", _few([picture.item_id for picture in unusable], len(there)))
    if sizes:
        findings.add(section, "shorter side", f"{min(sizes):,} to {max(sizes):,}, median {np.median(sizes):g} pixels")
    if unusable:
        _say_unusable(unusable, len(there), config["missing_content"], findings)
    hashes = hash_files([path for _, path in there])
    findings.add(section, "like another item's", f"{_alike(hashes):,} of {len(there):,}")
    if remark := repeated_picture([path for _, path in there], hashes):
        findings.warn(remark)
    return paths


def sample_of(
    config, item_ids: Sequence[str], texts: list[str] | None, paths: list[Path | None] | None
) -> list[SampleItem]:
    """Items to look at, drawn with ``sample_seed``."""
    size = min(_SAMPLE, len(item_ids))
    drawn = np.sort(np.random.default_rng(config["sample_seed"]).choice(len(item_ids), size, replace=False))
    return [SampleItem(item_ids[row], texts[row] if texts else "", paths[row] if paths else None) for row in drawn]


def _check_folder(directory: Path, item_ids: Sequence[str], paths: Sequence[Path | None], findings: Findings) -> None:
    """Files that are nobody's picture, and items with several."""
    found, names = listing(directory), {path.name for path in paths if path}
    several = [item_id for item_id in item_ids if len(_pictures(found.get(item_id, ()))) > 1]
    others = {name for item_id in several for name in found[item_id]} - names
    every = {name for of_item in found.values() for name in of_item}
    findings.add("Pictures", "of no item", f"{len(every - names - others):,} of {len(every):,} files")
    if several:
        first = _pictures(found[several[0]])
        findings.warn(
            f"{len(several):,} items have several pictures in {directory}: {shown(several)}. Of {', '.join(first)} the "
            "first is taken; delete the others."
        )


def _pictures(names: Sequence[str]) -> list[str]:
    return [name for name in names if Path(name).suffix]


def _open_all(there: Sequence[tuple[str, Path]], show: bool) -> tuple[list[UnusablePicture], list[int]]:
    """Open every picture as training does; those that do not open, and the shorter sides of the others."""

    def shorter_side(place: tuple[str, Path]) -> int | UnusablePicture:
        try:
            return min(open_picture(place[1]).size)
        except UnreadablePicture as error:
            return UnusablePicture(place[0], str(place[1]), str(error))

    unusable: list[UnusablePicture] = []
    sizes: list[int] = []
    bar = tqdm(total=len(there), desc="Pictures", disable=not show)
    with bar, ThreadPoolExecutor(n_cores()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about EXIF blocks and the like
        for start in range(0, len(there), _CHUNK):  # or all are queued at once
            for result in pool.map(shorter_side, there[start : start + _CHUNK]):
                bar.update()
                if isinstance(result, UnusablePicture):
                    unusable.append(result)
                else:
                    sizes.append(result)
    return unusable, sizes


def _say_unusable(unusable: list[UnusablePicture], total: int, missing_content: str, findings: Findings) -> None:
    text = report(unusable, total)
    if len(unusable) == total:
        findings.error(f"{text}\nCheck them, or do without pictures: `modalities: [text]`.")
    elif missing_content == "error":
        findings.error(
            f"{text}\nRepair or delete them; `missing_content: neutral` puts the mean colour in their place."
        )
    else:
        findings.warn(f"{text}\nThe mean colour stands in for them (missing_content: neutral).")


def _lengths(tokenizer, texts: Sequence[str], show: bool) -> np.ndarray:
    """Tokens of each text, those that mark its ends included, ``[n]``."""
    lengths: list[int] = []
    with quiet_transformers(), tqdm(total=len(texts), desc="Texts", disable=not show) as bar:
        for start in range(0, len(texts), _CHUNK):
            chunk = list(texts[start : start + _CHUNK])
            lengths += map(len, tokenizer(chunk, return_attention_mask=False)["input_ids"])
            bar.update(len(chunk))
    return np.array(lengths)


def _alike(values: Sequence) -> int:
    """How many of ``values`` stand there more than once; empty ones do not count."""
    return sum(number for value, number in Counter(values).items() if value and number > 1)


def _few(item_ids: list[str], whole: int) -> str:
    return f"{len(item_ids):,} of {whole:,}" + (f": {shown(item_ids)}" if item_ids else "")


def _item_file(config) -> Path:
    return Path(config["data_path"]) / f"{config['dataset']}.item"
