"""What a recommender needs, from a checkpoint or a bundle."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recbole.data.dataset import Dataset
from torch import nn

from recbole_perpeft.config import Config
from recbole_perpeft.serving.bundle import open_bundle
from recbole_perpeft.serving.bundle_data import catalogue_in
from recbole_perpeft.serving.bundle_files import Bundle
from recbole_perpeft.serving.catalogue import Catalogue, catalogue_of
from recbole_perpeft.serving.new_items import EncoderSource, own_encoder
from recbole_perpeft.utils.errors import CheckpointError, RequestError

if TYPE_CHECKING:  # a bundle is opened without transformers
    from recbole_perpeft.content import ItemContent
    from recbole_perpeft.encoder import FoundationModel, ItemEncoder


@dataclass(frozen=True)
class Opened:
    """A trained model and what is known beside it.

    Attributes
    ----------
    config : Config
        The settings of the run.
    model : torch.nn.Module
        With its trained weights.
    parts : sequence of Dataset
        The data set's training, validation and test part.
    catalogue : Catalogue
        The items.
    encoder : EncoderSource
        What reads new ones.
    """

    config: Config
    model: nn.Module
    parts: Sequence[Dataset]
    catalogue: Catalogue
    encoder: EncoderSource

    @classmethod
    def of(cls, config: Config, model: nn.Module, parts: Sequence[Dataset]) -> "Opened":
        """Of a model as a run has it, with its encoder and the ``.item`` file of its data set."""
        return cls(config, model, parts, catalogue_of(config, parts[0]), own_encoder(model, config))


def open_trained(file: str | Path, settings: dict | None, new_data: bool) -> Opened:
    """Open a checkpoint, or the folder of a bundle; see :meth:`Recommender.load`."""
    if not Path(file).exists():  # it may have been either
        raise CheckpointError(f"{file} does not exist: give a checkpoint, or the folder of a bundle.")
    if not Path(file).is_dir():
        from recbole_perpeft.quick_start import load  # late: a bundle does not wait for the trainers

        config, trainer, *loaders = load(file, settings, new_data=new_data)
        trainer.tensorboard.close()
        return Opened.of(config, trainer.model, [loader._dataset for loader in loaders])
    if new_data:
        raise RequestError(f"new_data: {file} is a bundle, which brings its data. Give its checkpoint.")
    bundle = Bundle.open(file)
    config, model, dataset = open_bundle(bundle, settings, lists=False)
    catalogue = catalogue_in(bundle)

    def foundation() -> "FoundationModel":
        from recbole_perpeft.serving.bundle_encoder import load_foundation_of

        return load_foundation_of(file, config)

    def adapted(foundation: "FoundationModel", content: "ItemContent") -> "ItemEncoder":
        from recbole_perpeft.serving.bundle_encoder import encoder_of

        encoder = encoder_of(file, config, foundation, content)
        bundle.check_is_there()
        return encoder

    bundle.check_is_there()
    return Opened(config, model, dataset.parts, catalogue, EncoderSource(foundation, adapted))
