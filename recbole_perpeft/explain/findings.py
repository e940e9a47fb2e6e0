"""What a report shows, computed: groups, items through their eyes, users, and how far modules moved."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from recbole_perpeft.evaluation.popularity import purchase_counts
from recbole_perpeft.explain.attention import Attention, Tokens, tokens_of, why_no_attention
from recbole_perpeft.explain.movement import changes_of, relative
from recbole_perpeft.explain.subject import Subject
from recbole_perpeft.explain.users import UserLists, UserMap, chosen_users, user_map
from recbole_perpeft.explain.views import agreement, nearest, seen_most_differently, vectors_of
from recbole_perpeft.grouping.typical import Typical, purchases_by_group, typical_items, typical_words

GLOBAL = "global (stage 1)"
ALL = "all users"
_ITEMS, _USERS = 3, 4  # that are shown if none is asked for
_TYPICAL_ITEMS, _TYPICAL_WORDS, _NEAREST, _BEST = 7, 10, 6, 6


@dataclass(frozen=True)
class GroupFinding:
    """A group of users and what sets its purchases apart."""

    group: int
    users: int
    purchases: int
    words: list[Typical]
    items: list[Typical]


@dataclass
class ItemFinding:
    """An item by the eyes of each of several views, by their names.

    Attributes
    ----------
    item : int
        Its number.
    agreement : float or None
        Mean cosine between the groups' vectors of it.
    tokens : Tokens or None
        Of its text.
    of_tokens, of_patches : dict
        Attention, of sum 1.
    nearest : dict
        Items and cosines.
    """

    item: int
    agreement: float | None = None
    tokens: Tokens | None = None
    of_tokens: dict[str, np.ndarray] = field(default_factory=dict)
    of_patches: dict[str, np.ndarray] = field(default_factory=dict)
    nearest: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


@dataclass
class Findings:
    """All of a report.

    Attributes
    ----------
    groups : list of GroupFinding
        None where all users are treated alike.
    users_map : UserMap or None
        With groups.
    items : list of ItemFinding
        Of a model that reads content.
    users : list of UserLists
        Of any model.
    layers, movement
        Names of layers, and how far each group's module moved in them, ``[groups, layers]``; None if not known.
    item_rule, user_rule : str
        How items and users were chosen.
    notes : list of str
        What is not shown, and why.
    """

    groups: list[GroupFinding] = field(default_factory=list)
    users_map: UserMap | None = None
    items: list[ItemFinding] = field(default_factory=list)
    users: list[UserLists] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)
    movement: np.ndarray | None = None
    item_rule: str = ""
    user_rule: str = ""
    notes: list[str] = field(default_factory=list)


def name_of(group: int) -> str:
    """What a view by a group's module is called."""
    return f"group {group}"


@torch.no_grad()
def find(
    subject: Subject, items: Sequence[str] = (), users: Sequence[str] = (), tell: Callable[[str], None] = print
) -> Findings:
    """Compute what is shown of a model.

    Parameters
    ----------
    items, users
        Ids of those to show; by default some, by a rule that the findings state.
    tell
        Gets a line before each part.

    Raises
    ------
    RequestError
        If an item or a user is unknown.
    """
    subject.model.eval()
    asked = subject.recommender.catalogue.numbers(items).tolist() if items else []
    chosen_users(subject, None, users, 0)  # refuses who is unknown before anything slow
    found, vectors, start = Findings(), {}, {}
    groups_of = subject.groups_of_users
    if groups_of is not None:
        tell("groups")
        found.groups = _groups(subject, groups_of)
    _say_what_is_missing(subject, found)
    if not subject.has_stage_1 or not subject.groups:
        found.users_map = user_map(subject, groups_of) if subject.groups else None
        _take_users(subject, found, users, groups_of)
    else:
        tell("stage 1's module")
        with subject.stage_1_in_use():
            found.users_map = user_map(subject, groups_of)
            _take_users(subject, found, users, groups_of)
            for lists in found.users:
                lists.add(GLOBAL, subject.scores(lists.user), _BEST)
            vectors[GLOBAL] = vectors_of(subject, 0)
            start = changes_of(subject.encoder, 0)
    for group in subject.views:
        tell(f"items as {name_of(group)} sees them" if subject.groups else "items")
        vectors[name_of(group) if subject.groups else ALL] = vectors_of(subject, group)
    for lists in found.users:
        _recommend(subject, found, lists)
    if subject.has_tower:
        tell("attention")
        _take_items(subject, found, asked, vectors)
    if start and subject.encoder.num_groups > 1:
        of_groups = [changes_of(subject.encoder, group) for group in subject.groups]
        found.layers, found.movement = list(start), np.stack([relative(own, start) for own in of_groups])
    return found


def _groups(subject: Subject, groups_of: np.ndarray) -> list[GroupFinding]:
    number = len(subject.groups)
    counts = purchases_by_group(subject.sequences, groups_of, number, len(subject.tokens))
    items = typical_items(counts, _TYPICAL_ITEMS)
    words = typical_words(counts, subject.titles, _TYPICAL_WORDS) if subject.titles else [[] for _ in items]
    sizes = subject.model.group_sizes().tolist()
    return [GroupFinding(g, sizes[g], int(counts[g].sum()), words[g], items[g]) for g in subject.groups]


def _take_users(subject: Subject, found: Findings, names: Sequence[str], groups_of: np.ndarray | None) -> None:
    chosen = chosen_users(subject, found.users_map, names, _USERS)
    if names:
        found.user_rule = "Those that were asked for."
    elif found.users_map is None:
        found.user_rule = "The first of the data who have a purchase in the test."
    else:
        found.user_rule = (
            "Of each of the largest groups the user who is nearest to the group's centre on the map's representations. "
            "What the model recommends had no part in it."
        )
    for user in chosen:
        group = None if groups_of is None or groups_of[user] < 0 else int(groups_of[user])
        found.users.append(UserLists.of(subject, user, group))


def _recommend(subject: Subject, found: Findings, lists: UserLists) -> None:
    """Add the lists that come from the model as it is, by one group's module alone or all that have a share."""
    model = subject.model
    if not subject.groups or model.item_tower.by_user or lists.group is None:
        lists.add("the model", subject.scores(lists.user), _BEST)
        return
    if model.is_soft:
        lists.add("the model (several modules)", subject.scores(lists.user), _BEST)
    other = found.users_map.farthest(lists.group)
    for name, group in ((f"own module ({name_of(lists.group)})", lists.group), (f"{name_of(other)}'s module", other)):
        if group is not None:
            with subject.model.scored_by(group):
                lists.add(name, subject.scores(lists.user), _BEST)


def _take_items(subject: Subject, found: Findings, asked: list[int], vectors: dict[str, torch.Tensor]) -> None:
    own = [vectors[name_of(group)] for group in subject.groups]
    in_order = {name: rows for name, rows in vectors.items() if name != GLOBAL} | vectors
    counts = purchase_counts(subject.parts[0])
    known = np.flatnonzero(counts > 0)
    if asked:
        chosen, found.item_rule = asked, "Those that were asked for."
    elif len(own) > 1:
        chosen = seen_most_differently(own, known, subject.titles, _ITEMS)
        found.item_rule = (
            "Those on whose vectors the groups agree least (mean cosine between each two groups' vectors of the item, "
            "about the catalogue's mean), of the items bought in training; of items with the same text one."
        )
    else:
        chosen = np.argsort(-counts, kind="stable")[:_ITEMS].tolist()
        found.item_rule = "The most bought in training: there are no groups to differ."
    agreements = agreement(own) if len(own) > 1 else None
    for item in chosen:
        finding = ItemFinding(item, None if agreements is None else float(agreements[item]))
        finding.nearest = {name: nearest(rows, item, _NEAREST) for name, rows in in_order.items()}
        found.items.append(finding)
    reason = why_no_attention(subject.encoder)
    if reason:
        found.notes.append(f"Attention: {reason}")
        return
    attention, content = Attention(subject.encoder), subject.content
    for finding in found.items:
        if content.tokens is not None:
            ids = content.tokens[finding.item][: content.lengths[finding.item]]
            finding.tokens = tokens_of(subject.encoder.foundation, subject.titles[finding.item], ids)
    if subject.encoder.num_groups == 1:
        _look(attention, found, ALL, 0)
        return
    for group in subject.groups:
        _look(attention, found, name_of(group), group)
    if subject.has_stage_1:
        with subject.stage_1_in_use():
            _look(attention, found, GLOBAL, 0)


def _look(attention: Attention, found: Findings, name: str, module: int) -> None:
    for finding in found.items:
        if finding.tokens is not None:
            weights = attention.of_tokens(finding.item, finding.tokens, module)
            if weights is not None:
                finding.of_tokens[name] = weights
        patches = attention.of_patches(finding.item, module)
        if patches is not None:
            finding.of_patches[name] = patches


def _say_what_is_missing(subject: Subject, found: Findings) -> None:
    name, say = subject.config["model"], found.notes.append
    if not subject.has_tower:
        say(f"Groups, items and modules: PerPEFT models have them, and {name} is none.")
        return
    if subject.is_bundle:
        say("Pictures: a bundle holds none.")
    if not subject.groups:
        say("Groups: all users have one module. Set num_groups to more than 1, and epochs beyond global_epochs.")
        return
    if subject.titles is None:
        say("Words: the .item file has none of the columns of text_fields.")
    if subject.is_bundle:
        say(
            "The global module: a bundle holds what groups ended with, and nothing of stage 1. How far modules moved "
            "from it, and what it would recommend, the checkpoint tells."
        )
    elif not subject.has_stage_1:
        say(
            "The global module: the checkpoint does not hold what stage 1 ended with (an older build wrote "
            "it, or training began after it). How far modules moved from it, and what it would recommend, is not known."
        )
    elif subject.encoder.num_groups == 1:
        say(f"Modules: with personalised_by {subject.config['personalised_by']} there is one for all groups.")
    elif not subject.encoder.adapter_parameters(0):
        say("Modules: with peft_type NONE groups have projectors of their own, and no module in the encoder.")
