"""What content adds to a score at the encoder's full width: how like an item is to what its user bought."""

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from recbole_perpeft.likeness.similarity import LikenessMap, bent, profiles
from recbole_perpeft.utils.mapped_rows import blocks, empty_rows, fill, release, rows_from

LEARNT = ("likeness", "softness")  # what a term has once something learns from it
FROZEN = "frozen"  # the key of what is as the foundation model sees it without any module
_RANK = 64
_CHUNK = 16_384  # items at a time


class ContentTerm(nn.Module):
    """``a cos(purchases of the user, item)`` of whitened features, later purchases weighing more.

    A projector as narrow as the backbone cannot hold which of many like items is most like another one; nothing is
    projected here. The weight ``a`` is 0 until one is found in validation
    (:mod:`~recbole_perpeft.trainer.term_weights`), and part of the model's state from then on.

    Parameters
    ----------
    folder
        Gives where tables lie that are too large for memory.

    Attributes
    ----------
    weight, decay : torch.Tensor
        a, and what a purchase weighs, as a share of the one after it.
    by_modules : torch.Tensor
        Where modules move the features: 1 if items are compared as modules see them, 0 if as the foundation model does
        without any. What modules learn of likeness can be what does not hold for purchases to come.
    likeness : torch.FloatTensor or None
        Where modules learn from the term: the map that all their features go through (:class:`LikenessMap`), of which
        the first row is the mean, the others are the factor, ``[d + 1, d]``. It is fitted once, before anything has
        moved: a map that followed the features would undo what is learnt. None: each table is whitened by itself.
    softness : torch.FloatTensor or None
        With it, the temperature and the decay of the loss that they learn by, ``[2]``.
    up, down : torch.nn.ParameterList
        Where no module moves the features: what each module's users have learnt of which directions count
        (:func:`~recbole_perpeft.likeness.similarity.bent`), ``[d, r]`` and ``[r, d]`` each. Empty elsewhere.
    pace : torch.FloatTensor or None
        With them: how far a step of the optimiser bends, as a share of how far it moves other weights, ``[]``.
    """

    def __init__(self, folder: Callable[[], Path]) -> None:
        super().__init__()
        self._folder = folder
        self.register_buffer("weight", torch.zeros(()))
        self.register_buffer("decay", torch.ones(()))
        self.register_buffer("by_modules", torch.ones(()))
        for name in LEARNT:
            self.register_buffer(name, None)
        self.up, self.down = nn.ParameterList(), nn.ParameterList()
        self.register_buffer("pace", None)
        self.register_load_state_dict_pre_hook(_have_learnt)
        self._tables: dict[int, torch.Tensor] = {}  # of each of the encoder's modules, [n_items, d]
        self._fixed: torch.Tensor | None = None  # one for all of them, which no training moves, before any bend
        self._fixed_map: LikenessMap | None = None  # of that
        self._frozen: torch.Tensor | None = None  # where modules learn, one for all of them without any
        self._frozen_map: LikenessMap | None = None  # of that
        self._table: torch.Tensor | None = None  # the one in use
        self._maps: dict[int, LikenessMap] = {}  # of each table; that of the one for all is module 0's

    @property
    def is_used(self) -> bool:
        """Whether scores depend on it."""
        return bool(self.weight > 0)

    @property
    def is_learnt(self) -> bool:
        """Whether modules learn from it."""
        return self.likeness is not None

    def have_bends(self, modules: int, d: int, pace: float) -> None:
        """Let ``modules`` learn of features of length ``d``, which nothing moves, which directions count.

        ``pace`` says how far a step of the optimiser moves them, as a share of how far it moves others.
        """
        self.pace = torch.tensor(float(pace))
        size = min(_RANK, d)
        start = torch.randn(size, d, generator=torch.Generator().manual_seed(0)) / d**0.5
        self.up = nn.ParameterList(nn.Parameter(torch.zeros(d, size)) for _ in range(modules))
        self.down = nn.ParameterList(nn.Parameter(start.clone()) for _ in range(modules))

    def bend_parameters(self, module: int) -> list[nn.Parameter]:
        """What ``module`` learns of which directions count, if anything."""
        return [self.up[module], self.down[module]] if len(self.up) else []

    def bend(self, module: int) -> tuple[torch.Tensor, torch.Tensor]:
        """How ``module`` bends vectors, as :func:`~recbole_perpeft.likeness.similarity.bent` takes it."""
        return self.pace * self.up[module], self.down[module]

    def fix_likeness(self, features: torch.Tensor) -> torch.Tensor:
        """Let all tables go through the map that is fitted to the ``features [n_items, d]`` of now.

        Gives the table of these features, ``[n_items, d]``.
        """
        fitted = LikenessMap.fitted(rows_from(features, 1))
        self.likeness = torch.cat([fitted.mean[None], fitted.factor]).float()  # [d + 1, d]
        self._fixed = self._fixed_map = None
        self.forget()
        return self._compared(self._likeness_of(rows_from(features, 1)), features)

    def fix_softness(self, temperature: float, decay: float) -> None:
        """Let modules learn by a loss of this temperature and decay."""
        self.softness = torch.tensor([temperature, decay], device=self.weight.device)

    def _likeness_of(self, items: torch.Tensor) -> LikenessMap:
        if self.likeness is None:
            return LikenessMap.fitted(items)
        mean, factor = self.likeness[0].double(), self.likeness[1:].double()
        return LikenessMap(mean, factor)

    def vectors(self, features: torch.Tensor) -> torch.Tensor:
        """Unit vectors of some items' ``features [m, d]``, with gradient, below a row of padding: ``[m + 1, d]``."""
        return F.pad(LikenessMap(self.likeness[0], self.likeness[1:]).with_gradient(features), (0, 0, 1, 0))

    def bent_vectors(self, items: torch.Tensor, module: int, encoder: nn.Module) -> torch.Tensor:
        """As :meth:`vectors`, of ``items [m]`` whose features nothing moves: the gradient is that of the bend."""
        self.read_fixed(encoder)
        rows = self._fixed[items.to(self._fixed.device)]
        return F.pad(bent(rows, *self.bend(module)), (0, 0, 1, 0))

    @property
    def table(self) -> torch.Tensor:
        """The unit vectors that scores are made of, ``[n_items, d]``."""
        return self._frozen if self._is_frozen else self._table

    @property
    def learnt_table(self) -> torch.Tensor:
        """The unit vectors as the module in use sees them, ``[n_items, d]``."""
        return self._table

    @property
    def can_be_frozen(self) -> bool:
        """Whether items can be compared as modules see them or as the foundation model does without any."""
        return self.is_learnt and not len(self.up)

    @property
    def _is_frozen(self) -> bool:
        return self._frozen is not None and not self.by_modules

    def use(self, module: int) -> None:
        """Let items be as the encoder's ``module`` sees them, which :meth:`read` has been told."""
        before, self._table = self._table, self._fixed if self._is_one_for_all else self._tables[module]
        if before is not None and before is not self._table:
            release(before)

    @property
    def _is_one_for_all(self) -> bool:
        return self._fixed is not None and not len(self.up)

    def read_fixed(self, encoder: nn.Module) -> None:
        """Take the features of all items that no training moves, once for all modules.

        Those of ``encoder`` that items are compared by, or, where modules move these, those of before if scores are
        made of them.
        """
        fixed = encoder.fixed_features() if self._fixed is None else None
        if fixed is not None:
            likeness = self._likeness_of(rows_from(fixed, 1))
            self._fixed, self._fixed_map = self._compared(likeness, fixed), likeness
            if self._is_one_for_all:
                self._maps = {0: likeness}
        if not self.by_modules:
            self.read_frozen(encoder)

    def read_frozen(self, encoder: nn.Module) -> None:
        """Take the features of all items as ``encoder`` has them without modules, where there is a choice."""
        if self.can_be_frozen and self._frozen is None:
            frozen = encoder.frozen_features()
            if frozen is not None:
                self._frozen_map = LikenessMap.fitted(rows_from(frozen, 1))
                self._frozen = self._compared(self._frozen_map, frozen)

    @property
    def reads_features(self) -> bool:
        """Whether :meth:`read` needs features: not where those that nothing moves are known."""
        return self._fixed is None

    def has_read(self, module: int) -> bool:
        """Whether it is known how the encoder's ``module`` sees all items now."""
        return self._is_one_for_all or module in self._tables

    def read(self, module: int, features: torch.Tensor | None) -> None:
        """Take the ``features [n_items, content_size]`` of all items, as the encoder's ``module`` sees them now."""
        if features is not None:
            self._maps[module] = self._likeness_of(rows_from(features, 1))
            self._tables[module] = self._compared(self._maps[module], features)
            return
        bend = tuple(part.detach().clone() for part in self.bend(module))
        self._maps[module] = replace(self._fixed_map, bend=bend)
        table = empty_rows(*self._fixed.shape, self._fixed.device, self._folder)  # [n_items, d]
        self._tables[module] = fill(table, (bent(block, *bend) for block in blocks(self._fixed, _CHUNK)))

    def _compared(self, likeness: LikenessMap, features: torch.Tensor) -> torch.Tensor:
        items = rows_from(features, 1)  # without padding
        table = empty_rows(*features.shape, features.device, self._folder)  # [n_items, d]
        return fill(table, chain([features.new_zeros(1, features.shape[1])], likeness.in_blocks(items)))

    @property
    def tables(self) -> dict[int | str, torch.Tensor]:
        """What was read as each module sees it, ``[n_items, d]``; that of module 0 alone, if it is one for all.

        Where scores are made of another, it is there as :data:`FROZEN`: what tells groups apart goes by the modules'.
        """
        read = {0: self._fixed} if self._is_one_for_all else self._tables
        return {**read, FROZEN: self._frozen} if self._is_frozen else read

    @property
    def maps(self) -> dict[int | str, LikenessMap]:
        """What each of :attr:`tables` was made of the features by."""
        return {**self._maps, FROZEN: self._frozen_map} if self._is_frozen else self._maps

    def keep(self, tables: dict[int | str, torch.Tensor], maps: dict[int | str, LikenessMap]) -> None:
        """Take :attr:`tables` and :attr:`maps` of a term that has read the features; one alone is for all modules."""
        self._tables, self._maps = dict(tables), dict(maps)
        self._frozen, self._frozen_map = self._tables.pop(FROZEN, None), self._maps.pop(FROZEN, None)
        if len(self._tables) == 1:
            self._fixed = self._tables.pop(0)

    def share(self, modules: int) -> None:
        """Let so many modules see items as the first does, if it has been read; before stage 3 none bends any."""
        table = self._tables.get(0)
        self._tables = {} if table is None else dict.fromkeys(range(modules), table)
        if table is not None:
            self._maps = dict.fromkeys(range(modules), self._maps[0])

    def forget(self) -> None:
        """Drop what was read, for the features have moved."""
        self._tables.clear()
        self._table = self._fixed if self._is_one_for_all else None

    def of_all(self, histories: torch.Tensor) -> torch.Tensor:
        """The cosines of all items, ``[n, n_items]``, to what users bought: ``histories [n, length]``, padded."""
        return profiles(self.table, histories, self.decay) @ self.table.T

    def add_to(self, scores: torch.Tensor, histories: torch.Tensor) -> torch.Tensor:
        """``scores [n, n_items]`` of the backbone, in their place with the weighted cosines of :meth:`of_all`."""
        return scores.addmm_(self.queries(histories), self.table.T)  # without a pass of its own, or as much memory

    def queries(self, histories: torch.Tensor) -> torch.Tensor:
        """What the rows of :attr:`table` are multiplied with for the weighted cosines, ``[n, d]``."""
        return self.weight * profiles(self.table, histories, self.decay)

    def of_pairs(self, histories: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """The same of one item for each row, ``items [n]``: ``[n]``."""
        return (profiles(self.table, histories, self.decay) * self.table[items]).sum(dim=1)


def _have_learnt(term: ContentTerm, state_dict: dict, prefix: str, *others) -> None:
    """Have what the state that is to be loaded has of :data:`LEARNT`; one of before there were bends has none."""
    for name in LEARNT:
        value = state_dict.get(prefix + name)
        setattr(term, name, None if value is None else torch.empty_like(value, device=term.weight.device))
    term._fixed = term._fixed_map = None  # of another map
    state_dict.setdefault(prefix + "by_modules", torch.ones(()))  # of before there was a choice
    own = {f"{prefix}{name}": value.detach() for name, value in term.named_parameters()}
    if term.pace is not None:
        own[prefix + "pace"] = term.pace
    bends = tuple(prefix + name for name in ("up.", "down.", "pace"))
    for key in [key for key in state_dict if key.startswith(bends) and key not in own]:
        del state_dict[key]  # of a term that is to be given its tables
    for key, value in own.items():
        state_dict.setdefault(key, value)
