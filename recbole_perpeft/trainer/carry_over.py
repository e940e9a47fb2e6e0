"""A model's state put where today's users and items are: yesterday's checkpoint on today's data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from recbole_perpeft.model import content_term
from recbole_perpeft.model.catalogue_axes import ITEMS, USERS, catalogue_axes
from recbole_perpeft.utils.errors import MisfitError

_IDS = "item_tower.id_embedding.weight"
_RULE = "group_rule."
_CONTENT = "item_tower.content_term."
LEARNT = tuple(_CONTENT + name for name in content_term.LEARNT)  # not in a model's state before it has learnt
_TERMS = (_CONTENT, "purchase_term.")  # parts of scores, by weights that a validation finds


@dataclass(frozen=True)
class Places:
    """Where what there was then is now.

    Attributes
    ----------
    then, now : torch.LongTensor
        Ids of what there is in both, ``[n]``; padding is the first.
    n_then, n_now : int
        How many ids there were, and are; padding included.
    """

    then: torch.Tensor
    now: torch.Tensor
    n_then: int
    n_now: int

    @classmethod
    def of(cls, then: Sequence[str], now: Sequence[str]) -> "Places":
        """Of tokens in the order of their ids."""
        id_then = {token: number for number, token in enumerate(then)}
        both = [(id_then[token], number) for number, token in enumerate(now) if token in id_then]
        found = torch.tensor(both, dtype=torch.long).view(-1, 2)
        return cls(found[:, 0], found[:, 1], len(then), len(now))

    @property
    def n_new(self) -> int:
        """How many were not there then."""
        return self.n_now - len(self.now)

    @property
    def n_gone(self) -> int:
        """How many are not there any more."""
        return self.n_then - len(self.then)

    def new(self) -> torch.Tensor:
        """Ids of what was not there then, ``[n_new]``."""
        is_new = torch.ones(self.n_now, dtype=torch.bool)
        is_new[self.now] = False
        return is_new.nonzero().flatten()

    def along(self, past: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows then and now of a table with ``past`` rows past the ids, as that of a mask token."""
        more = torch.arange(past)
        return torch.cat([self.then, self.n_then + more]), torch.cat([self.now, self.n_now + more])


def tokens_of(dataset) -> dict[str, list[str]]:
    """What a checkpoint holds of its users and items: their tokens in the order of ids, of which the first is padding.

    Parameters
    ----------
    dataset
        A RecBole dataset.
    """
    fields = {USERS: dataset.uid_field, ITEMS: dataset.iid_field}
    return {kind: [str(token) for token in dataset.field2id_token[field]] for kind, field in fields.items()}


def places_of(ids: Mapping[str, Sequence[str]], dataset) -> dict[str, Places]:
    """Where the users and the items of a checkpoint are in ``dataset``.

    Raises
    ------
    MisfitError
        If no item is in both.
    """
    now = tokens_of(dataset)
    places = {kind: Places.of(ids[kind], now[kind]) for kind in (USERS, ITEMS)}
    if len(places[ITEMS].now) == 1:
        raise MisfitError(
            f"None of the {places[ITEMS].n_now - 1} items of today ({', '.join(now[ITEMS][1:4])}, ...) is among the "
            f"{places[ITEMS].n_then - 1} of the checkpoint ({', '.join(ids[ITEMS][1:4])}, ...): it is of another "
            "catalogue. Set data_path and dataset to the data that it was made with, as they are now."
        )
    return places


def carry_over(
    state: Mapping[str, torch.Tensor], ids: Mapping[str, Sequence[str]], model: nn.Module, dataset
) -> dict[str, torch.Tensor]:
    """``state`` with every row of a user or an item where today's data set has them.

    What is gone is left out. Rows of new users and items are as ``model`` has them, with these exceptions: an item that
    the state was not trained on has an ID part of zeros, and is its content alone until it is trained on; a new user is
    in no group, where users are grouped; new items are unknown to the rule by which groups were made. A term of the
    scores that ``model`` does without is left out; one that ``state`` is without has no weight yet.

    Parameters
    ----------
    state
        Of a PerPEFT model, from a checkpoint.
    ids
        What the checkpoint holds of its users and items: ``users`` and ``items``, from :func:`tokens_of`, and
        ``untrained``, the items that its training had not seen.
    model
        A PerPEFT model of the same settings but for such terms, made with ``dataset``, which nothing has been loaded
        into.
    dataset
        The training part of today.

    Returns
    -------
    dict
        A state for ``model``, on the CPU.

    Raises
    ------
    MisfitError
        If ``state`` is of another build or other settings, or no item is in both.
    """
    places, axes = places_of(ids, dataset), catalogue_axes(model, dataset.config, dataset)
    present = {key: value.cpu() for key, value in model.state_dict().items()}
    if odd := sorted(key for key in present.keys() ^ state.keys() if not key.startswith((_RULE, *_TERMS))):
        raise MisfitError(f"only one of the two has {', '.join(odd[:3])}")
    of_rule = {_RULE + model.group_rule.name_of(key): value for key, value in present.items()}
    carried = {key: value for key, value in present.items() if key.startswith(_TERMS) and key not in state}
    for key, value in state.items():
        learnt = key in LEARNT and model.item_tower.content_term is not None
        if key.startswith(_TERMS) and key not in present and not learnt:
            continue
        along = {dim: places[kind] for dim, kind in axes.get(key, {}).items()}
        now = present.get(key, of_rule.get(key))
        carried[key] = _moved(key, value.cpu(), now, along)
    carried[_IDS][_never_trained(ids, places[ITEMS])] = 0
    if carried["user_groups"][0] < 0:  # users are grouped
        carried["user_groups"][places[USERS].new()] = -1
    return carried


def has_new_terms(state: Mapping[str, torch.Tensor], model: nn.Module) -> bool:
    """Whether ``model``'s scores have a term of which ``state`` has no weight."""
    weights = {f"{term}weight" for term in _TERMS}
    return bool(weights & model.state_dict().keys() - state.keys())


def untrained_now(ids: Mapping[str, Sequence[str]], model: nn.Module, dataset) -> list[int]:
    """The items that neither the checkpoint's training has seen nor today's purchases for training name."""
    never = set(_never_trained(ids, places_of(ids, dataset)[ITEMS]).tolist())
    return [item for item in model.item_tower.untrained if item in never]


def _never_trained(ids: Mapping[str, Sequence[str]], items: Places) -> torch.Tensor:
    """Ids of now of the items that the checkpoint's training had not seen, ``[n]``."""
    tokens = set(ids["untrained"])
    unseen = torch.tensor([ids[ITEMS][item] in tokens for item in items.then.tolist()], dtype=torch.bool)
    return torch.cat([items.new(), items.now[unseen]])


def _moved(key: str, value: torch.Tensor, now: torch.Tensor | None, along: Mapping[int, Places]) -> torch.Tensor:
    """``value`` with its rows of then where they are now; the others are those of ``now``, or zeros."""
    if now is None and not along:  # of a rule or a map, whatever its shape
        return value
    rows = {}
    shape = list(value.shape)
    for dim, places in along.items():
        past = value.shape[dim] - places.n_then
        shape[dim] = places.n_now + past
        rows[dim] = places.along(past)
    if now is None:
        now = value.new_zeros(shape)
    if list(now.shape) != shape:
        raise MisfitError(f"{key} has the shape {list(value.shape)} in the checkpoint, now {list(now.shape)}")
    return _placed(now, value, list(rows.items()))


def _placed(now: torch.Tensor, value: torch.Tensor, rows: list) -> torch.Tensor:
    """``now`` with ``value`` in the place of ``rows``: ``(dimension, (then, now))`` of each that is moved along."""
    if not rows:
        return value
    (dim, (then, here)), *rest = rows
    part = _placed(now.index_select(dim, here), value.index_select(dim, then), rest)
    return now.index_copy(dim, here, part)
