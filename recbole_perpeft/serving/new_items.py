"""Items that came after the training: read by picture and title, and put into the catalogue of a trained model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from recbole.data.dataset import Dataset
from recbole.utils import ModelType
from torch import nn

from recbole_perpeft.config import Config
from recbole_perpeft.data.more_ids import with_more_ids
from recbole_perpeft.model.content_term import FROZEN
from recbole_perpeft.model.perpeft import PerPEFTMixin
from recbole_perpeft.model.tower_factory import adapted_encoder, content_of, foundation_of
from recbole_perpeft.serving.absent_encoder import AbsentItemEncoder
from recbole_perpeft.trainer.carry_over import carry_over, tokens_of
from recbole_perpeft.utils.errors import RequestError
from recbole_perpeft.utils.random_state import random_state_kept

if TYPE_CHECKING:  # a bundle is opened without transformers
    from recbole_perpeft.content import ItemContent
    from recbole_perpeft.encoder import FoundationModel, ItemEncoder

_ENCODER = "item_tower.encoder."


@dataclass(frozen=True)
class EncoderSource:
    """Where the encoder that was trained comes from, to read items that it has not seen.

    Attributes
    ----------
    foundation : callable
        Loads the foundation model.
    adapted : callable
        Makes the encoder of a foundation model and the content to read, with all groups' modules.
    """

    foundation: Callable[[], "FoundationModel"]
    adapted: Callable[["FoundationModel", "ItemContent"], "ItemEncoder"]


@dataclass(frozen=True)
class NewItems:
    """Items that have been read.

    Attributes
    ----------
    file : pathlib.Path
        The atomic ``.item`` file that tells of them.
    tokens : list of str
        Their ids, ``[n]``.
    features : dict of int to torch.Tensor
        What each module sees of them, ``[n, content_size]``.
    fixed : torch.Tensor or None
        What they are compared by where no module moves it, ``[n, d]``.
    frozen : torch.Tensor or None
        What they are compared by where it is moved, but compared without modules, ``[n, d]``.
    """

    file: Path
    tokens: list[str]
    features: dict[int, torch.Tensor]
    fixed: torch.Tensor | None
    frozen: torch.Tensor | None


@dataclass(frozen=True)
class NewRows:
    """What a model's tables get of new items.

    Attributes
    ----------
    of_groups : dict of int to torch.Tensor
        ``[n, embedding_dim]`` for each group.
    of_term : dict of int or str to torch.Tensor
        The vectors of the content term, ``[n, d]``, for each of its tables.
    """

    of_groups: dict[int, torch.Tensor]
    of_term: dict[int | str, torch.Tensor]


def check_takes_items(config: Config, model: nn.Module) -> None:
    """Refuse models that cannot take items without training.

    Raises
    ------
    RequestError
        If a model knows items by their ids alone, or all items are part of what it computes.
    """
    if not isinstance(model, PerPEFTMixin):
        raise RequestError(
            f"{config['model']} knows items by what it learnt of each in training: only PerPEFT models take new ones."
        )
    sequential = config["MODEL_TYPE"] == ModelType.SEQUENTIAL
    if not sequential or config.internal_config_dict.get("selected_features") or model.item_tower.by_user:
        raise RequestError(
            f"{config['model']} takes no new items here: they change its graph, its item features or its users' own "
            "tables. Add them to the .item file and open the checkpoint on it (unbought_items, new_data)."
        )


def own_encoder(model: PerPEFTMixin, config: Config) -> EncoderSource:
    """That of ``model``, which has an encoder."""

    def adapted(foundation: "FoundationModel", content: "ItemContent") -> "ItemEncoder":
        encoder = adapted_encoder(config, foundation, content).to(config["device"])
        encoder.load_state_dict(model.item_tower.encoder.state_dict())
        return encoder.eval()

    return EncoderSource(partial(foundation_of, config), adapted)


@torch.no_grad()
def read_new_items(
    config: Config, file: Path, tokens: list[str], source: EncoderSource, model: PerPEFTMixin
) -> NewItems:
    """Read the pictures and texts of new items as each module sees them; the model is not touched.

    Parameters
    ----------
    file
        An atomic ``.item`` file with the items; pictures are looked for in its folder, as ``image_dir`` or
        ``image_field`` say.
    tokens
        Their ids.
    source
        Of the encoder.
    model
        Whose content term says whether it compares items without modules.

    Raises
    ------
    ContentError
        If a title or a picture is missing (``missing_content``) or cannot be read.
    EncoderError
        If the foundation model is not found.
    """
    foundation = source.foundation()
    content = content_of(config, foundation, ["[PAD]", *tokens], file.parent, file)
    encoder, items = source.adapted(foundation, content), torch.arange(1, len(tokens) + 1)
    features = {}
    for module in range(encoder.num_groups):
        with encoder.activate(module):
            features[module] = encoder.encode(items, module).to(config["device"])  # [n, content_size]
    term = model.item_tower.content_term
    without_modules = term is not None and not term.by_modules  # else they are not read a second time
    compared = encoder.fixed_features(), encoder.frozen_features() if without_modules else None
    fixed, frozen = (None if each is None else each[1:].to(config["device"]) for each in compared)
    return NewItems(file, tokens, features, fixed, frozen)


@torch.no_grad()
def _rows_of(model: PerPEFTMixin, new: NewItems) -> NewRows:
    """What the item tower makes of new items for each group."""
    _tables(model)  # of which the content term's maps come
    tower, features = model.item_tower, new.features
    of_groups = {group: tower.rows_of(features[tower.module_of(group)], group) for group in range(model.num_groups)}
    of_term, term = {}, tower.content_term
    for module, likeness in {} if term is None else term.maps.items():
        moved = new.frozen if module == FROZEN else features[module]
        of_term[module] = likeness(moved if new.fixed is None else new.fixed)
    return NewRows(of_groups, of_term)


def with_new_items(
    model: PerPEFTMixin, config: Config, parts: Sequence[Dataset], items: NewItems
) -> tuple[PerPEFTMixin, list[Dataset]]:
    """A model of the same weights whose catalogue has new items at its end, and its data set's parts.

    The new items are their content alone: nothing was trained on them. All others score as before.
    """
    tokens, rows = items.tokens, _rows_of(model, items)
    encoder, ids = model.item_tower.encoder, tokens_of(parts[0])
    names = parts[0].field2id_token[parts[0].iid_field]
    ids["untrained"] = [str(names[item]) for item in model.item_tower.untrained if item < len(names)]
    larger = [_larger(part, tokens) for part in parts]
    larger[0].item_encoder = AbsentItemEncoder(encoder.num_groups, encoder.feature_dim, "its encoder")
    state = {key: value for key, value in model.state_dict().items() if not key.startswith(_ENCODER)}
    tables = _tables(model)
    with random_state_kept():
        new = type(model)(config, larger[0])
    new.load_state_dict(carry_over(state, ids, new, larger[0]))
    new = new.to(model.device).eval()
    n_items = model.n_items
    new.item_tower.keep(
        {group: torch.cat([table[:n_items], rows.of_groups[group], table[n_items:]]) for group, table in tables.items()}
    )
    new.purchase_term = model.purchase_term and model.purchase_term.with_items(new.n_items)
    term = model.item_tower.content_term
    if term is None:
        new.item_tower.content_term = None  # as of a bundle whose term has no weight
    else:
        of_term = {module: torch.cat([table, rows.of_term[module]]) for module, table in term.tables.items()}
        new.item_tower.content_term.keep(of_term, term.maps)
    return new, larger


def _tables(model: PerPEFTMixin) -> dict[int, torch.Tensor]:
    found = {}
    for group in range(model.num_groups):
        with model.item_tower.catalogue(group):
            found[group] = model.item_tower.weight  # [num_embeddings, embedding_dim]
    return found


def _larger(part: Dataset, tokens: Sequence[str]) -> Dataset:
    """``part`` with more items, which nobody has bought."""
    larger = with_more_ids(part, {part.iid_field: tokens})
    larger.item_feat = None  # of these models it has ids alone
    return larger
