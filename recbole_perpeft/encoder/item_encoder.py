"""The contract of an item encoder, and the one that adapts nothing."""

import contextlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from recbole_perpeft.encoder.foundation.state_store import StateStore
from recbole_perpeft.encoder.item_features import ItemFeatures
from recbole_perpeft.utils.errors import EncoderError

if TYPE_CHECKING:  # a bundle is opened without transformers
    from recbole_perpeft.content import ItemContent
    from recbole_perpeft.encoder.foundation.foundation_model import FoundationModel


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
    dtype : torch.dtype
        In which the foundation model multiplies.
    show_progress : bool
        Whether work on the whole catalogue shows a bar.

    Attributes
    ----------
    reads : tuple of str
        Settings that a class takes beside these parameters, by their names: of ``peft_type``, ``peft_config``,
        ``peft_layers`` and ``iisan_form``. The others are refused where they are given.
    likeness_is_fixed : bool
        Whether no module of ours moves what items are compared by for likeness (:meth:`fixed_features`).
    feature_dim : int
        Length of a feature.
    item_features : ItemFeatures
        Runs the foundation model, and counts the items.

    Raises
    ------
    EncoderError
        If ``num_groups`` is not positive.
    """

    reads: tuple[str, ...] = ()
    likeness_is_fixed = False

    def __init__(
        self,
        foundation: "FoundationModel",
        content: "ItemContent",
        num_groups: int,
        dtype: torch.dtype,
        show_progress: bool,
    ) -> None:
        super().__init__()
        if not isinstance(num_groups, int) or isinstance(num_groups, bool) or num_groups < 1:
            raise EncoderError(f"num_groups: {num_groups!r} is no positive whole number. Set 1 or more.")
        self.foundation = foundation
        self.content = content
        self.num_groups = num_groups
        self.feature_dim = foundation.feature_dim
        self.item_features = ItemFeatures(foundation, content, dtype, show_progress)

    @staticmethod
    def check_settings(peft_type: str | None, peft_config: Mapping[str, Any] | None) -> None:
        """Refuse settings that can serve no foundation model, before any content is prepared.

        Raises
        ------
        EncoderError
            Names the setting and the cure.
        """

    @property
    def items_encoded(self) -> int:
        """How many items went through the foundation model so far."""
        return self.item_features.items_encoded

    @property
    def reach(self) -> str:
        """What of the foundation model a module reads or adapts."""
        return "no layers"

    @property
    def has_small_products(self) -> bool:
        """Whether a training step is of products so small that the threads of a CPU take longer to meet."""
        return False

    def __repr__(self) -> str:
        # a printed model would list every layer of the foundation model once for each group's adapter
        return f"{type(self).__name__}({self.foundation.name}, {self.foundation.num_parameters:,} frozen parameters)"

    @abstractmethod
    def encode(self, items: torch.Tensor, group: int) -> torch.Tensor:
        """Encode items for a group.

        Parameters
        ----------
        items : LongTensor[n]
            Internal item ids, on the CPU.
        group : int
            The group whose module is used.

        Returns
        -------
        FloatTensor[n, feature_dim]
        """

    @property
    def likeness_dim(self) -> int:
        """Length of what items are compared by for likeness."""
        return self.feature_dim

    def fixed_features(self) -> torch.Tensor | None:
        """What items are compared by for likeness, if no module of ours moves it, ``[n_items, d]``.

        None: what :meth:`encode` gives for the group.
        """
        return None

    def frozen_features(self) -> torch.Tensor | None:
        """Where :meth:`fixed_features` gives None: the foundation model's without any module, ``[n_items, d]``."""
        return None

    @contextlib.contextmanager
    def activate(self, group: int) -> Iterator[None]:
        """Make a group the active one for a while. Encoders that treat groups alike have nothing to do."""
        self._check_group(group)
        yield

    def adapter_parameters(self, group: int) -> list[tuple[str, nn.Parameter]]:
        """Return names and trainable parameters of a group's own module."""
        self._check_group(group)
        return []

    def peft_parameters(self) -> list[nn.Parameter]:
        """Return the trainable parameters of all groups' modules."""
        return [p for group in range(self.num_groups) for _, p in self.adapter_parameters(group)]

    def copy_adapter(self, source: int) -> None:
        """Give every group a copy of the module of group ``source``."""
        self._check_group(source)

    def frozen_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that never train: those of the foundation model."""
        trained = {id(parameter) for parameter in self.peft_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in trained]

    def frozen_state_keys(self) -> set[str]:
        """Return the keys of ``state_dict()`` that a checkpoint can leave out: the foundation model's."""
        return set(self.state_dict())

    def _check_group(self, group: int) -> None:
        if not 0 <= group < self.num_groups:
            raise EncoderError(f"group {group} does not exist: num_groups is {self.num_groups}.")


class FrozenItemEncoder(ItemEncoder):
    """Features of the foundation model as it is, the same for all groups (``peft_type: NONE``).

    They are computed once ever, for the whole catalogue, and kept beside the content. Parameters, attributes and
    errors are those of :class:`ItemEncoder`.
    """

    likeness_is_fixed = True

    def __init__(
        self,
        foundation: "FoundationModel",
        content: "ItemContent",
        num_groups: int,
        dtype: torch.dtype = torch.float32,
        show_progress: bool = False,
    ) -> None:
        super().__init__(foundation, content, num_groups, dtype, show_progress)
        foundation.cast(dtype, keep=set())
        self._features: StateStore | None = None

    def encode(self, items: torch.Tensor, group: int) -> torch.Tensor:
        """Look up the features of items [n]: [n, feature_dim], without gradient."""
        self._check_group(group)
        return self._all().gather(items, 1)[:, 0]

    def fixed_features(self) -> torch.Tensor:
        """Those of the foundation model, ``[n_items, d]``."""
        return self._all().whole()

    def _all(self) -> StateStore:
        if self._features is None:
            self._features = self.item_features.frozen_features()
        return self._features
