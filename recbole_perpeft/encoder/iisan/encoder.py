"""The item encoder of side networks over hidden states that are computed once (``peft_type: IISAN``)."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from recbole_perpeft.content import ItemContent
from recbole_perpeft.encoder.foundation.foundation_model import FoundationModel
from recbole_perpeft.encoder.foundation.hidden_states import TowerStates
from recbole_perpeft.encoder.foundation.state_store import StateStore
from recbole_perpeft.encoder.iisan.side_network import SideNetworks
from recbole_perpeft.encoder.item_encoder import ItemEncoder
from recbole_perpeft.utils.errors import EncoderError, nearest_name

# The paper's settings.
_DEFAULTS = {"bottleneck": 32, "states": 7}


class SideNetworkItemEncoder(ItemEncoder):
    """One set of side networks per group over cached hidden states; training never runs the foundation model.

    Parameters
    ----------
    foundation : FoundationModel
        The frozen model.
    content : ItemContent
        Pictures and texts of the catalogue.
    num_groups : int
        Number of user groups.
    dtype : torch.dtype
        In which the foundation model multiplies, and states are kept.
    show_progress : bool
        Whether computing the states shows a bar.
    peft_config : mapping or None
        ``bottleneck``: inner width of the blocks; ``states``: hidden states read of each tower, evenly spaced from the
        embeddings to the last layer, of which a shallow tower has fewer.
    iisan_form : {"normalised", "authors"}
        How the networks are built, see :class:`~recbole_perpeft.encoder.iisan.side_network.SideNetworks`.

    Raises
    ------
    EncoderError
        If a field does not exist or has a value that cannot be used, or a tower has no stack of layers.
    """

    reads = ("peft_config", "iisan_form")
    likeness_is_fixed = True

    def __init__(
        self,
        foundation: FoundationModel,
        content: ItemContent,
        num_groups: int,
        dtype: torch.dtype,
        show_progress: bool,
        *,
        peft_config: Mapping[str, Any] | None,
        iisan_form: str,
    ) -> None:
        super().__init__(foundation, content, num_groups, dtype, show_progress)
        fields = side_network_settings(peft_config)
        self._towers = {modality: TowerStates(foundation, modality) for modality in foundation.modalities}
        self.number = min(fields["states"], 1 + min(tower.depth for tower in self._towers.values()))
        foundation.cast(dtype, keep=set())
        widths = {modality: tower.widths(self.number) for modality, tower in self._towers.items()}
        first = SideNetworks(widths, fields["bottleneck"], iisan_form)
        self.networks = nn.ModuleList(copy.deepcopy(first) for _ in range(num_groups))
        self.feature_dim = first.feature_dim
        self._states: dict[str, StateStore] | None = None

    @staticmethod
    def check_settings(peft_type: str | None, peft_config: Mapping[str, Any] | None) -> None:
        """Refuse what :func:`side_network_settings` refuses."""
        side_network_settings(peft_config)

    @property
    def reach(self) -> str:
        """What of the foundation model a module reads or adapts."""
        return f"{self.number} hidden states of each tower"

    def encode(self, items: torch.Tensor, group: int) -> torch.Tensor:
        """Encode items [n] as ``group`` sees them: [n, feature_dim]."""
        self._check_group(group)
        if self._states is None:
            self._states = self.item_features.hidden_states(self._towers, self.number)
        return self.networks[group]({m: store.gather(items, self.number) for m, store in self._states.items()})

    @property
    def likeness_dim(self) -> int:
        """Length of the foundation model's features."""
        return self.foundation.feature_dim

    def fixed_features(self) -> torch.Tensor:
        """Those of the foundation model, ``[n_items, d]``: the networks' have nothing of it before they are trained."""
        return self.item_features.frozen_features().whole()

    def adapter_parameters(self, group: int) -> list[tuple[str, nn.Parameter]]:
        """Return names and trainable parameters of a group's own networks."""
        self._check_group(group)
        return [(f"networks.{group}.{name}", p) for name, p in self.networks[group].named_parameters()]

    def copy_adapter(self, source: int) -> None:
        """Give every group a copy of the networks of group ``source``."""
        self._check_group(source)
        state = self.networks[source].state_dict()
        for networks in self.networks:
            networks.load_state_dict(state)

    def frozen_state_keys(self) -> set[str]:
        """Return the keys of ``state_dict()`` that a checkpoint can leave out: the foundation model's."""
        return {key for key in self.state_dict() if not key.startswith("networks.")}


def side_network_settings(settings: Mapping[str, Any] | None) -> dict[str, int]:
    """``peft_config`` over the paper's settings.

    Raises
    ------
    EncoderError
        If a field does not exist, or has a value that cannot be used.
    """
    settings = settings or {}
    if not isinstance(settings, Mapping):
        raise EncoderError(f"peft_config: {settings!r} is no mapping. Write fields and values, such as bottleneck: 32.")
    for field, value in settings.items():
        if field not in _DEFAULTS:
            raise EncoderError(f"peft_config: IISAN has no field {field!r}.{nearest_name(str(field), [*_DEFAULTS])}")
        least = 2 if field == "states" else 1
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise EncoderError(f"peft_config: {field}: {value!r} is no whole number from {least} up. Correct it.")
    return _DEFAULTS | dict(settings)
