"""Checking the catalogue's content and making it ready for an encoder."""

import logging
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from recbole_perpeft.content.cache import size_of
from recbole_perpeft.content.found import (
    count_found,
    find_pictures,
    find_texts,
    place_of_pictures,
    place_of_texts,
    repeated_texts,
    without,
)
from recbole_perpeft.content.item_content import ItemContent
from recbole_perpeft.content.item_file import read_item_texts
from recbole_perpeft.content.pixels import ensure_pixels
from recbole_perpeft.content.store import digest
from recbole_perpeft.content.texts import check_template
from recbole_perpeft.content.tokens import ensure_tokens
from recbole_perpeft.content.unusable_pictures import FILE_NAME, read_list, report
from recbole_perpeft.content.uses import note_use
from recbole_perpeft.utils.errors import ContentError

MODALITIES = ("image", "text")
MISSING_CONTENT = ("error", "neutral")


def prepare_content(
    item_ids: Sequence[str],
    folder: str | PathLike,
    *,
    item_file: str | PathLike,
    item_id_field: str = "item_id",
    modalities: Sequence[str],
    text_fields: Sequence[str],
    text_template: str | None,
    image_field: str | None,
    image_dir: str,
    missing_content: str,
    image_processor,
    tokenizer,
    max_text_length: int,
    fixed_text_length: bool,
    cache_dir: str | PathLike,
    workers: int | None = None,
    show_progress: bool = True,
    encoding: str = "utf-8",
    separator: str = "\t",
) -> ItemContent:
    """Check the catalogue's content, make it ready for an encoder, and open it.

    What was made before is opened and not made again, separately for pictures and texts.

    Parameters
    ----------
    item_ids
        External item ids in the order of RecBole's internal ids (``dataset.field2id_token[iid_field]``);
        index 0 is the padding item.
    folder
        The data set's folder.
    item_file
        The ``.item`` atomic file. Read only if texts are wanted or `image_field` is set.
    item_id_field
        The column of the item ids.
    modalities
        Which of ``"image"`` and ``"text"`` to prepare. The other is not looked at.
    text_fields
        Columns that describe an item.
    text_template
        `str.format` template over them; None joins those that are not blank by ``". "``.
    image_field
        Column with the picture's path relative to `folder`; None finds pictures by item id in `image_dir`.
    image_dir
        The pictures' folder, absolute or relative to `folder`.
    missing_content
        ``"error"``, or ``"neutral"``: the processor's mean colour for a picture, also for one that cannot be used, the
        empty text for a text.
    image_processor, tokenizer
        The encoder's own, from Hugging Face; None for a modality that is not wanted.
    max_text_length
        Where texts are cut, in tokens.
    fixed_text_length
        See `ItemContent`.
    cache_dir
        Where the prepared content is kept.
    workers
        How many threads open pictures; None takes as many as there are CPUs.
    show_progress
        Whether to show progress bars.
    encoding
        The item file's encoding.
    separator
        What stands between two fields of the item file.

    Returns
    -------
    ItemContent
        With ``len(item_ids)`` rows; row 0 is neutral.

    Raises
    ------
    ContentError
        If a setting, a file or the cache folder cannot be used, or content is missing.
    """
    item_ids = [str(item_id) for item_id in item_ids]
    folder, cache_dir = Path(folder), Path(cache_dir)
    _check_settings(modalities, missing_content, image_processor, tokenizer)
    if "text" in modalities:
        check_template(text_template, text_fields)

    fields = [*text_fields] if "text" in modalities else []
    if "image" in modalities and image_field is not None:
        fields.append(image_field)
    rows = read_item_texts(item_file, item_id_field, fields, encoding=encoding, separator=separator) if fields else {}

    pixel_store, token_store, decoded = None, None, 0
    found = []
    # Both modalities are checked before the long work on either.
    if "image" in modalities:
        paths = [None, *find_pictures(item_ids[1:], rows, folder, image_field, image_dir)]
        where = place_of_pictures(item_file, folder, image_field, image_dir)
        found.append(count_found(item_ids[1:], paths[1:], "image", where, missing_content))
    if "text" in modalities:
        texts = ["", *find_texts(item_ids[1:], rows, text_fields, text_template)]
        where = place_of_texts(item_file, text_fields)
        found.append(count_found(item_ids[1:], texts[1:], "text", where, missing_content))
        if remark := repeated_texts(texts[1:]):
            logging.getLogger().warning(remark)

    stored = []
    if "image" in modalities:
        pixel_store, reused = ensure_pixels(
            cache_dir,
            item_ids,
            paths,
            image_processor,
            missing_content=missing_content,
            workers=workers,
            show_progress=show_progress,
        )
        unusable = read_list(pixel_store / FILE_NAME)
        if unusable:
            found[0] += f" (of which {len(unusable)} cannot be used)"
            total = sum(path is not None for path in paths)
            logging.getLogger().warning(
                f"{report(unusable, total, pixel_store / FILE_NAME)} The mean colour stands in for them."
            )
        decoded = 0 if reused else sum(path is not None for path in paths)
        stored.append(f"{pixel_store} ({'reused' if reused else 'made'})")
    if "text" in modalities:
        token_store, reused = ensure_tokens(
            cache_dir, item_ids, texts, tokenizer, max_text_length, show_progress=show_progress
        )
        stored.append(f"{token_store} ({'reused' if reused else 'made'})")
    logging.getLogger().info(f"Item content: {', '.join(found)}; in {', '.join(stored)}")
    for store in filter(None, (pixel_store, token_store)):
        note_use(store, folder.name)
    logging.getLogger().info(
        f"The content cache {cache_dir} (content_cache) holds {size_of(cache_dir) / 1e9:.3f} GB; python -m "
        "recbole_perpeft cache lists and prunes it."
    )

    return ItemContent(
        modalities=tuple(name for name in MODALITIES if name in modalities),
        n_items=len(item_ids),
        key=digest([str(pixel_store and pixel_store.name), str(token_store and token_store.name), fixed_text_length]),
        pixel_store=pixel_store,
        token_store=token_store,
        data_set=folder.name,
        fixed_text_length=fixed_text_length,
        pictures_decoded=decoded,
    )


def _check_settings(modalities: Sequence[str], missing_content: str, image_processor, tokenizer) -> None:
    if not modalities or isinstance(modalities, str) or not set(modalities) <= set(MODALITIES):
        raise ContentError(f"`modalities: {modalities}` must be a list of one or both of {', '.join(MODALITIES)}.")
    if missing_content not in MISSING_CONTENT:
        raise ContentError(f"`missing_content: {missing_content}` must be one of {', '.join(MISSING_CONTENT)}.")
    tools = {"image": (image_processor, "image processor"), "text": (tokenizer, "tokenizer")}
    for modality in modalities:
        tool, name = tools[modality]
        if tool is None:
            raise ContentError(
                f"`modalities: {list(modalities)}` has {modality!r}, but the encoder has no {name}: "
                f"{without(modality)}, or choose another encoder."
            )
