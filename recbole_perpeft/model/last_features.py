"""What the encoder last saw of all items, from which tables are carried on where few items are encoded."""

from collections.abc import Callable

import torch

_DTYPE = torch.float16  # features have length 1; half the memory of all modules' tables


class LastFeatures:
    """Features ``f(i; P_m)`` of all items ``[n_items, content_size]``, as last computed for each of the modules.

    Attributes
    ----------
    are_kept : bool
        Whether training reads them, so that an evaluation leaves what it computes.
    """

    def __init__(self) -> None:
        self.are_kept = False
        self._of_modules: dict[int, torch.Tensor] = {}

    @staticmethod
    def size(n_items: int, content_size: int, modules: int) -> int:
        """Bytes of those of so many modules."""
        return _DTYPE.itemsize * n_items * content_size * modules

    def has(self, module: int) -> bool:
        """Whether those of ``module`` are known."""
        return module in self._of_modules

    def of(self, module: int, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Those of ``module``; what ``compute`` gives, where they are not known."""
        self.are_kept = True
        if module not in self._of_modules:
            self.take(module, compute())
        return self._of_modules[module]

    def take(self, module: int, features: torch.Tensor) -> None:
        """Let ``features`` be those of ``module``."""
        self._of_modules[module] = features.to(_DTYPE)

    def share(self, modules: int) -> None:
        """Let so many modules, which are copies of the first, have what it has; that of others is dropped."""
        first = self._of_modules.get(0)
        self._of_modules = {} if first is None else dict.fromkeys(range(modules), first)

    def clear(self) -> None:
        """Drop them: they are computed anew when they are needed."""
        self._of_modules.clear()
