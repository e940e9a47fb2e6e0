"""One PEFT module per user group on one shared foundation model, through the peft library.

The paper's personalised PEFT: ``z(i, g)`` reads item ``i`` through the module ``P_g`` of group ``g``.
"""

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn
from torch.func import functional_call

from recbole_perpeft.content import ItemContent
from recbole_perpeft.encoder.foundation.foundation_model import FoundationModel
from recbole_perpeft.encoder.foundation.last_layer import trim_towers
from recbole_perpeft.encoder.foundation.layer_cut import cut_towers
from recbole_perpeft.encoder.item_encoder import ItemEncoder
from recbole_perpeft.encoder.peft.adapter_checks import check_merged, check_trains
from recbole_perpeft.encoder.peft.compiled import PAYS_AFTER, CompiledEncode
from recbole_perpeft.encoder.peft.dropout import Masks
from recbole_perpeft.encoder.peft.merging import MERGEABLE, merged
from recbole_perpeft.encoder.peft.methods import method_settings
from recbole_perpeft.encoder.peft.targets import make_peft_config
from recbole_perpeft.utils.errors import EncoderError, first_line


class PeftItemEncoder(ItemEncoder):
    """Runs the foundation model with the module of the active group.

    The modules of all groups exist from the start, so ``state_dict`` has fixed keys, and start equal. They are
    called ``group_0``, ``group_1`` … A backward pass reaches the active group's module only; the others keep
    ``grad is None``, so that an optimiser over all of them neither moves nor decays them.

    Parameters
    ----------
    foundation : FoundationModel
        Adapted in place; serves one item encoder.
    content : ItemContent
        Pictures and texts of the catalogue.
    num_groups : int
        Number of user groups.
    dtype : torch.dtype
        In which the foundation model multiplies; adapters keep their weights in float32.
    show_progress : bool
        Whether work on the whole catalogue shows a bar.
    peft_type : str
        LORA, IA3 or another method of peft.
    peft_config : mapping or None
        Fields of the method's configuration, which replace the paper's values.
    peft_layers : int or None
        Top layers of each tower that may be adapted; what is below is computed once per item. None adapts all.
    compile_encoder : bool or None
        Whether training steps run the foundation model compiled; for LORA and IA3. None waits until that pays, and
        leaves other methods as they are.

    Attributes
    ----------
    peft_model : peft.PeftModel
        For saving modules in peft's own format. Its adapters are switched by :meth:`activate` alone.

    Raises
    ------
    EncoderError
        If the method or its configuration cannot be used on this model.
    """

    reads = ("peft_type", "peft_config", "peft_layers", "compile_encoder")

    def __init__(
        self,
        foundation: FoundationModel,
        content: ItemContent,
        num_groups: int,
        dtype: torch.dtype,
        show_progress: bool,
        *,
        peft_type: str,
        peft_config: Mapping[str, Any] | None,
        peft_layers: int | None,
        compile_encoder: bool | None = False,
    ) -> None:
        if peft_layers is not None:
            cut_towers(foundation, peft_layers)
        trim_towers(foundation)
        super().__init__(foundation, content, num_groups, dtype, show_progress)
        config = make_peft_config(peft_type, peft_config, foundation)
        # Not a registered child: it wraps foundation.model, whose weights would appear twice in state_dict.
        object.__setattr__(self, "peft_model", _inject(foundation.model, config, num_groups))
        self._masks = Masks(foundation)
        self._active, self._merged = 0, False
        self._layers = [
            module for module in foundation.modules() if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)
        ]
        self._mergeable = config.peft_type in MERGEABLE
        self._adapted = [layer for layer in self._layers if isinstance(layer, BaseTunerLayer)]
        self._enable_gradients()
        self._check()
        # An adapter is merged into the exact weight: a change smaller than bf16's step would be lost in a rounded one.
        foundation.cast(dtype, keep={layer.get_base_layer() for layer in self._adapted})
        for layer in self._adapted:
            layer.cast_input_dtype_enabled = dtype == torch.float32  # else autocast does it, once and not twice
        self.register_load_state_dict_post_hook(_find_trainable_again)
        self.copy_adapter(0)
        if compile_encoder and not self._mergeable:
            raise EncoderError(
                f"compile_encoder: True is for LORA and IA3, and peft_type is {config.peft_type.value}. Set False."
            )
        # of other methods it is not known that their parameters are all that groups have of their own
        if self._mergeable and compile_encoder is not False:
            self._compile(0 if compile_encoder else PAYS_AFTER)

    @staticmethod
    def check_settings(peft_type: str | None, peft_config: Mapping[str, Any] | None) -> None:
        """Refuse what :func:`~recbole_perpeft.encoder.peft.methods.method_settings` refuses."""
        method_settings(peft_type, peft_config)

    @property
    def reach(self) -> str:
        """What of the foundation model a module reads or adapts."""
        kept = max((cut.kept for cut in self.foundation.cuts.values()), default=None)
        return "all layers" if kept is None else f"top {kept} layers of each tower"

    @property
    def has_small_products(self) -> bool:
        """Whether the foundation model, which runs in every step, is that small."""
        return self.item_features.has_small_products

    def encode(self, items: torch.Tensor, group: int) -> torch.Tensor:
        """Encode items [n] as ``group`` sees them: [n, feature_dim]."""
        with self.activate(group):
            if self.training:
                self._masks.follow_torch()
            return self.item_features.encode(
                items, self._by_tower(group) if self.item_features.gains_from_threads else None
            )

    @contextlib.contextmanager
    def activate(self, group: int) -> Iterator[None]:
        """Make a group's module the active one, and the previous one again afterwards.

        Where nothing is trained, the module is merged into the foundation model's weights for that time.
        """
        self._check_group(group)
        previous = self._active
        self._switch(group)
        try:
            with contextlib.ExitStack() as stack:
                if self._mergeable and not (torch.is_grad_enabled() or self.training or self._merged):
                    stack.enter_context(self._merge(self.item_features.dtype))
                yield
        finally:
            self._switch(previous)

    @contextlib.contextmanager
    def _merge(self, dtype: torch.dtype) -> Iterator[None]:
        self._merged = True
        try:
            with merged(self._adapted, f"group_{self._active}", dtype):
                yield
        finally:
            self._merged = False

    def frozen_features(self) -> torch.Tensor:
        """The foundation model's without any module, ``[n_items, d]``, computed once ever."""
        training = self.training
        self.eval()
        for layer in self._layers:  # peft's own switch would also freeze the modules of all groups
            layer._disable_adapters = True
        try:
            return self.item_features.frozen_features(beside_modules=True).whole()
        finally:
            for layer in self._layers:
                layer._disable_adapters = False
            self.train(training)

    def adapter_parameters(self, group: int) -> list[tuple[str, nn.Parameter]]:
        """Return names and trainable parameters of a group's own module."""
        self._check_group(group)
        return [(name, p) for name, p in self._trainable if _owner(name) == group]

    def _by_tower(self, group: int) -> dict[str, list[nn.Parameter]] | None:
        """What a group's module trains in the tower of each modality; None if they cannot run at the same time."""
        towers = {modality: self.foundation.children_of(modality) for modality in self.foundation.modalities}
        # methods of which it is known that they draw random numbers by their dropout alone
        if not self._mergeable or len(set().union(*towers.values())) < sum(map(len, towers.values())):
            return None
        of_group = [(name.removeprefix("foundation.model."), own) for name, own in self.adapter_parameters(group)]
        return {
            modality: [own for name, own in of_group if name.split(".")[0] in children]
            for modality, children in towers.items()
        }

    @torch.no_grad()
    def copy_adapter(self, source: int) -> None:
        """Copy the parameters and buffers of a group's module into those of all other groups, in place."""
        self._check_group(source)
        tensors = self._adapter_tensors()
        for name, tensor in tensors.items():
            group = _owner(name)
            if group != source:
                tensor.copy_(tensors[_rename(name, group, source)])

    def frozen_state_keys(self) -> set[str]:
        """Return the keys of ``state_dict()`` that a checkpoint can leave out: the foundation model's."""
        return {key for key in self.state_dict() if _owner(key) is None}

    def _adapter_tensors(self) -> dict[str, torch.Tensor]:
        # duplicates stay: some methods let groups share a buffer of random projections
        named = (
            *self.named_parameters(remove_duplicate=False),
            *self.named_buffers(remove_duplicate=False),
        )
        return {name: tensor for name, tensor in named if _owner(name) is not None}

    def _switch(self, group: int) -> None:
        if group == self._active:
            return
        if self._merged:
            raise EncoderError(f"group {group} cannot be encoded while group {self._active} is merged.")
        # PeftModel.set_adapter says the same to these layers, but also visits every parameter of every group to
        # switch its requires_grad: milliseconds per step, and optimisers would lose sight of inactive groups.
        for layer in self._layers:
            layer._active_adapter = [f"group_{group}"]
        self._active = group

    def _compile(self, after: int) -> None:
        compiled = CompiledEncode(self.foundation, after)

        def run(modality: str, batch: dict[str, torch.Tensor], states: torch.Tensor | None) -> torch.Tensor:
            if not compiled.serves(batch, states):
                return self.foundation.encode(modality, batch, states)
            group = self._active
            own = {_rename(name, group, 0): tensor for name, tensor in self.adapter_parameters(group)}
            self._switch(0)
            try:
                return functional_call(compiled, own, (modality, batch, states), tie_weights=False)
            finally:
                self._switch(group)

        self.item_features.compiled = run

    def _check(self) -> None:
        """Refuse a module that would not train, or would act otherwise merged; seen in float32 and without dropout."""
        training = self.training
        self.eval()
        parameters = self.adapter_parameters(self._active)
        check_trains(self.foundation, parameters)
        if self._mergeable:
            check_merged(self.foundation, parameters, self._merge(torch.float32))
        self.train(training)

    def _enable_gradients(self) -> None:
        """Let the modules of all groups train at once; what is not active stays out of the graph anyway."""
        trainable = {}
        for group in range(self.num_groups):
            self.peft_model.set_adapter(f"group_{group}")
            trainable.update((name, p) for name, p in self.named_parameters() if p.requires_grad)
        self.peft_model.set_adapter("group_0")
        shared = [name for name in trainable if _owner(name) is None]
        if shared or not trainable:
            what = f"would train {shared[0]} of the model that all groups share" if shared else "trains nothing"
            raise EncoderError(f"peft_config: it {what}. Leave out what touches the shared weights (such as bias).")
        for parameter in trainable.values():
            parameter.requires_grad_(True)
        self._trainable = [(name, p) for name, p in self.named_parameters() if name in trainable]


def _find_trainable_again(encoder: PeftItemEncoder, incompatible_keys: Any) -> None:
    """A state that was loaded with ``assign=True`` has put other parameters in their places."""
    parameters = dict(encoder.named_parameters())
    encoder._trainable = [(name, parameters[name]) for name, _ in encoder._trainable]


def _inject(model: nn.Module, config: Any, num_groups: int) -> PeftModel:
    try:
        peft_model = get_peft_model(model, copy.deepcopy(config), adapter_name="group_0")
        for group in range(1, num_groups):
            peft_model.add_adapter(f"group_{group}", copy.deepcopy(config))
    except Exception as error:  # each method of peft checks layers and values in its own way
        raise EncoderError(
            f"peft_config: peft cannot put {config.peft_type.value} into this model ({first_line(error)}). "
            "Correct peft_config."
        ) from error
    return peft_model


def _owner(name: str) -> int | None:
    """Tell the group that a tensor belongs to by its name; None for the foundation model's."""
    for part in name.split("."):
        if part.startswith("group_") and part[6:].isdigit():
            return int(part[6:])
    return None


def _rename(name: str, old: int, new: int) -> str:
    return ".".join(f"group_{new}" if part == f"group_{old}" else part for part in name.split("."))
