"""The contract of an item encoder, and the one that adapts nothing."""

import contextlib
from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import nn

from recbole_perpeft.content import ItemContent
from recbole_perpeft.encoder.errors import EncoderError
from recbole_perpeft.encoder.foundation_model import FoundationModel


class ItemEncoder(nn.Module):
    """Turns item ids into content features, as a group of users sees them.

    Parameters
    ----------
    foundation : FoundationModel
        The frozen model that all groups share.
    content : ItemContent
        Pictures and texts of the catalogue.
    num_groups : int
        Number of user groups.
    encode_batch_size : int
        Items per run of the foundation model where no gradient is needed.

    Attributes
    ----------
    feature_dim : int
        Length of a feature.
    items_encoded : int
        How many items went through the foundation model so far.

    Raises
    ------
    EncoderError
        If a number is not positive.
    """

    def __init__(
        self, foundation: FoundationModel, content: ItemContent, num_groups: int, encode_batch_size: int
    ) -> None:
        super().__init__()
        for setting, value in (("num_groups", num_groups), ("encode_batch_size", encode_batch_size)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise EncoderError(f"{setting}: {value!r} is no positive whole number. Set 1 or more.")
        self.foundation = foundation
        self.content = content
        self.num_groups = num_groups
        self.encode_batch_size = encode_batch_size
        self.feature_dim = foundation.feature_dim
        self.items_encoded = 0

    def __repr__(self) -> str:
        # a printed model would list every layer of the foundation model once for each group's adapter
        return f"{type(self).__name__}({self.foundation.name}, {self.foundation.num_parameters:,} frozen parameters)"

    @abstractmethod
    def encode(self, items: torch.Tensor, group: int) -> torch.Tensor:
        """Encode items for a group.

        Parameters
        ----------
        items : LongTensor[n]
            Internal item ids.
        group : int
            The group whose module is used.

        Returns
        -------
        FloatTensor[n, feature_dim]
        """

    @contextlib.contextmanager
    def activate(self, group: int) -> Iterator[None]:
        """Make a group the active one for a while. Encoders that treat groups alike have nothing to do."""
        self._check_group(group)
        yield

    def adapter_parameters(self, group: int) -> list[tuple[str, nn.Parameter]]:
        """Return names and trainable parameters of a group's own module."""
        self._check_group(group)
        return []

    def copy_adapter(self, source: int) -> None:
        """Give every group a copy of the module of group ``source``."""
        self._check_group(source)

    def frozen_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that never train: those of the foundation model."""
        trained = {id(p) for group in range(self.num_groups) for _, p in self.adapter_parameters(group)}
        return [parameter for parameter in self.parameters() if id(parameter) not in trained]

    def frozen_state_keys(self) -> set[str]:
        """Return the keys of ``state_dict()`` that a checkpoint can leave out: the foundation model's."""
        return set(self.state_dict())

    def _check_group(self, group: int) -> None:
        if not 0 <= group < self.num_groups:
            raise EncoderError(f"group {group} does not exist: num_groups is {self.num_groups}.")

    def _run_foundation(self, items: torch.Tensor) -> torch.Tensor:
        """Encode items [n] with the foundation model as it stands, in chunks if no gradient is needed."""
        self.items_encoded += len(items)
        if torch.is_grad_enabled() and len(items):
            return self.foundation(self.content.batch(items))
        empty = torch.zeros(0, self.feature_dim, device=self.foundation.device)
        chunks = items.split(self.encode_batch_size) if len(items) else ()
        return torch.cat([empty, *(self.foundation(self.content.batch(chunk)) for chunk in chunks)])


class FrozenItemEncoder(ItemEncoder):
    """Features of the foundation model as it is, the same for all groups (``peft_type: NONE``).

    They are computed once, for the whole catalogue, when the first are asked for. Parameters, attributes and
    errors are those of :class:`ItemEncoder`.
    """

    def __init__(
        self, foundation: FoundationModel, content: ItemContent, num_groups: int, encode_batch_size: int = 256
    ) -> None:
        super().__init__(foundation, content, num_groups, encode_batch_size)
        self.register_buffer("features", None, persistent=False)  # [n_items, feature_dim] once computed

    def encode(self, items: torch.Tensor, group: int) -> torch.Tensor:
        """Look up the features of items [n]: [n, feature_dim], without gradient."""
        self._check_group(group)
        if self.features is None:
            # in full precision: the step that happens to ask first does not decide how exact they are
            with torch.no_grad(), torch.autocast(self.foundation.device.type, enabled=False):
                self.features = self._run_foundation(torch.arange(self.content.n_items))
        return self.features[items.to(self.features.device)]
