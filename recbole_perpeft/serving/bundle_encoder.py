"""The encoder of a bundle, for items that it does not know: the foundation model is needed for these alone."""

from pathlib import Path

from recbole_perpeft.config import Config
from recbole_perpeft.content import ItemContent
from recbole_perpeft.encoder import FoundationModel, ItemEncoder
from recbole_perpeft.model.tower_factory import adapted_encoder, foundation_of
from recbole_perpeft.serving.adapter_files import read_adapters
from recbole_perpeft.serving.bundle_files import Bundle
from recbole_perpeft.utils.errors import BundleError


def load_foundation_of(folder: str | Path, config: Config) -> FoundationModel:
    """The foundation model that a bundle was trained on, to read new items with.

    Parameters
    ----------
    folder
        The bundle.
    config
        Of :func:`~recbole_perpeft.serving.bundle.open_bundle`; ``encoder`` (``image_encoder``, ``text_encoder``) says
        where the model is.

    Raises
    ------
    EncoderError
        If it cannot be found.
    BundleError
        If it is another, or the bundle's model reads no content.
    """
    name, known = Bundle.open(folder).encoder("name", "hash")
    foundation = foundation_of(config)
    if foundation.fingerprint() != known:
        raise BundleError(
            f"encoder: {foundation.name} is not the {name} that the bundle {folder} was trained on: its weights or "
            "configuration are others. Set encoder (or image_encoder and text_encoder) to that one."
        )
    return foundation


def encoder_of(folder: str | Path, config: Config, foundation: FoundationModel, content: ItemContent) -> ItemEncoder:
    """The item encoder of a bundle with all groups' modules, to read ``content``, such as that of new items.

    Parameters
    ----------
    folder, config
        As of :func:`load_foundation_of`.
    foundation
        From :func:`load_foundation_of`; adapted in place.
    content
        Pictures and texts, prepared for ``foundation``.

    Returns
    -------
    ItemEncoder
        In eval mode, on the device of ``config``.

    Raises
    ------
    BundleError
        If the modules do not fit.
    """
    encoder = adapted_encoder(config, foundation, content).to(config["device"])
    read_adapters(encoder, Bundle.open(folder))
    return encoder.eval()
