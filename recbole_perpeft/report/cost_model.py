"""What a run costs before it is run: seconds, memory and disk of each part, from its sizes and the machine's rates."""

import math
from dataclasses import dataclass

from recbole_perpeft.config.choices import may_follow
from recbole_perpeft.data.item_lists import LEAST_ROWS, SCORES_OF_A_BLOCK
from recbole_perpeft.evaluation.rank_gain import ROWS
from recbole_perpeft.grouping.likeness_groups import LENGTH, PURCHASES
from recbole_perpeft.likeness.mixture import ITEMS, predictions
from recbole_perpeft.model.content_loss import TABLES
from recbole_perpeft.model.read_purchases import DRAWN, DRAWN_BY_CONTENT, MOST_COMPARED
from recbole_perpeft.model.score_parts import Part
from recbole_perpeft.report.cost_probe import Rates
from recbole_perpeft.report.cost_sizes import Batches, Sizes
from recbole_perpeft.trainer import group_shares
from recbole_perpeft.trainer.term_weights import AGAIN, FACTORS, FORMS, KEPT, MEASURED, NEAR, SHARES_OF, rounds
from recbole_perpeft.trainer.user_groups import FOLLOWED
from recbole_perpeft.utils.mapped_rows import IN_MEMORY

# Bytes, as benchmarks/large_catalogue.py found them (docs/scale.md).
_PROCESS = 780e6  # Python with torch, transformers and RecBole
_OF_AN_ITEM = 900  # ids, titles and hashes of an item
_OF_A_USER, _OF_A_PURCHASE = 600, 90  # beside the lists
_ID_TABLES = 5  # weights, gradient, AdamW's two moments, average
_COMPARED = 32 + 64  # components by which users are grouped, in double and single precision
_LOGITS = 6  # of a step's logits are alive at once
_KEPT_LISTS = 12  # bytes of a place in a user's list: an item and its time
_SCORES_AT_ONCE = 7  # of a block, in the search for the terms' weights; in that for shares one of each group
_START = 6.5  # seconds of imports, data and model
_HASHED, _GROUPED = 1.2e-5, 1.5e-5  # seconds of an item: its hash, at each store of states; its part in the grouping
_OF_A_STEP, _USER_OF_A_STEP = 2.5e-3, 1e-5  # seconds of a step beside its products, and of a user in it
_OF_A_CALL = 1e-3  # seconds of scores of some users of a group, whatever their number
_CALLS = 5  # of a validation for each group: the ranking, and the searches, whose parts of scores take less
_NARROW = 3  # of an operation's time in IISAN's narrow networks, in times of one in a tower
_SETTINGS = {Part.CONTENT: "content_term", Part.PURCHASES: "purchase_term"}
_TOP = 0.2  # of the time of the last layer that is left where one of its positions is read


@dataclass(frozen=True)
class Cost:
    """Of a part of a run.

    Attributes
    ----------
    name : str
        What it is.
    seconds, memory, disk : float
        Memory and disk in bytes; zero where there is nothing to say.
    """

    name: str
    seconds: float = 0.0
    memory: float = 0.0
    disk: float = 0.0


def costs(sizes: Sizes, rates: Rates) -> dict[str, list[Cost]]:
    """Costs of a run, under the headings by which they are shown."""
    epochs = sizes.settings["epochs"]
    first = sizes.settings["global_epochs"] if sizes.groups > 1 else epochs
    of_stages = {1: sizes.batches(1), 3: sizes.batches(sizes.groups)}
    steps = {stage: _step(sizes, rates, batches, stage) for stage, batches in of_stages.items()}
    epoch = {stage: batches.number * steps[stage].seconds for stage, batches in of_stages.items()}
    one, all_groups = _validation(sizes, rates, 1), _validation(sizes, rates, sizes.groups)
    test = all_groups - _searches(sizes, rates)
    once = _once(sizes, rates)
    total = sum(cost.seconds for cost in once) + first * (epoch[1] + one) + (epochs - first) * (epoch[3] + all_groups)
    taken = [steps[1]] * (first > 0) + [steps[3]] * (epochs > first)
    held = [*_memory(sizes), Cost("a step", memory=max((step.memory for step in taken), default=0.0))]
    return {
        "Once": once,
        "Each time": [
            *(Cost(f"an epoch's steps in stage {stage}: {of}", epoch[stage]) for stage, of in of_stages.items()),
            Cost("a validation in stage 1, or by one group's module", one),
            Cost(f"a validation in stage 3, {sizes.groups} groups", all_groups),
        ],
        "Memory": held,
        "Each group": [_of_a_group(sizes)],
        "In all": [
            Cost(
                f"{epochs} epochs, {first} of them of stage 1, and the test",
                total + test,
                sum(cost.memory for cost in held),
                sum(cost.disk for cost in once) + sizes.groups * _of_a_group(sizes).disk,
            )
        ],
    }


def _encoding(sizes: Sizes, rates: dict[str, float]) -> float:
    """Seconds of an item above the cut, and in IISAN's networks."""
    seconds = 0.0
    for modality, tower in sizes.towers.items():
        layers = max(0, sizes.upper(tower) - 1 + _TOP) if sizes.upper(tower) else 0
        seconds += layers * tower.layer_operations * rates[modality]
        if sizes.method == "IISAN":
            bottleneck = (sizes.settings["peft_config"] or {}).get("bottleneck", 32)
            between = min(each.width for each in sizes.towers.values()) if len(sizes.towers) > 1 else 0
            operations = sizes.states * (4 * tower.width * bottleneck + 2 * between * (bottleneck + tower.width))
            seconds += _NARROW * operations * rates[modality]
    return seconds


def _once(sizes: Sizes, rates: Rates) -> list[Cost]:
    n, found = sizes.items, [Cost("the start", _START)]
    for modality, tower in sizes.towers.items():
        is_image = modality == "image"
        each, size = (rates.picture, 3 * tower.side**2) if is_image else (rates.text, 4 * tower.tokens)
        found.append(Cost("pictures" if is_image else "titles", n * each, disk=n * size))
        lower = tower.layers - sizes.upper(tower)
        runs = (2 if sizes.method == "IISAN" else 1) if sizes.is_frozen else 1  # IISAN's states, and the features
        operations = lower * tower.layer_operations + bool(lower) * tower.first_operations
        seconds = n * runs * (operations * rates.forward[modality] + _HASHED)
        kept = {"IISAN": sizes.states, "NONE": 0}.get(sizes.method, tower.tokens if lower else 0)
        features = 4 * tower.feature * sizes.is_frozen
        disk = n * (kept * tower.width * sizes.value_bytes + features)
        found.append(Cost(f"{modality} states, {lower} layers", seconds, disk=disk))
    fixed = n * rates.vectors * (sizes.is_frozen and _has_content(sizes))
    if _can_be_frozen(sizes):
        fixed += n * (_encoding(sizes, rates.forward) + rates.vectors)
    found.append(Cost("vectors of the content term", fixed, disk=_split(_vectors(sizes), _modules(sizes))[1]))
    found.append(Cost("the first search for the terms' weights", _first_search(sizes, rates)))
    if sizes.groups > 1:
        found.append(Cost("the grouping", n * _GROUPED + _likeness(sizes, rates)))
    if _is_soft(sizes):
        compared = n if n <= MOST_COMPARED else DRAWN
        rows = _searched(sizes, ROWS)
        seconds = _encoded(sizes, rates, sizes.groups)  # of the best state
        seconds += sizes.groups * sizes.users * (rates.user + compared * (sizes.purchases - 1) * rates.loss)
        of_a_row = rates.user + n * (rates.score + len(group_shares.CANDIDATES) * rates.weighed)
        seconds += sizes.groups * (rows * of_a_row + sizes.users * (rates.user + n * rates.score))  # and a validation
        seconds += 2 * sizes.groups**2 * _OF_A_CALL  # in both, users of each group are scored under each module
        found.append(Cost("the search for groups' shares, if stage 3 is kept", seconds))
    return found


def _is_soft(sizes: Sizes) -> bool:
    return sizes.groups > 1 and bool(sizes.settings["soft_groups"])


def _modules(sizes: Sizes) -> int:
    """In how many ways items are compared: where no module moves the features, as they are, and as groups learn."""
    if not sizes.is_frozen:
        return sizes.groups + _can_be_frozen(sizes)
    learns = sizes.groups > 1 and _learns_content(sizes)
    return 1 + sizes.groups * (learns and sizes.groups * _vectors(sizes) <= TABLES)


def _learns_content(sizes: Sizes) -> bool:
    """Whether modules, or groups where no module can, learn what is alike."""
    return _has_content(sizes) and sizes.settings["loss_type"] == "CE"


def _can_be_frozen(sizes: Sizes) -> bool:
    """Whether a validation says if items are compared as modules see them or without any."""
    return not sizes.is_frozen and _learns_content(sizes)


def _vectors(sizes: Sizes) -> int:
    return 4 * sizes.items * sizes.compared_width


def _split(table: int, number: int) -> tuple[int, int]:
    """Bytes in memory and in files of a number of tables, one of which is in use."""
    return (table, number * table) if table > IN_MEMORY else (number * table, 0)


def _has_content(sizes: Sizes) -> bool:
    return bool(sizes.settings["content_term"])


def _step(sizes: Sizes, rates: Rates, batches: Batches, stage: int) -> Cost:
    portion, items = batches.kept, batches.encoded
    seconds = items * _encoding(sizes, rates.training) / batches.together
    if portion and items > portion:
        seconds += (items - portion) * _encoding(sizes, rates.forward) / batches.together
        items = portion
    seconds += rates.backbone[stage] + batches.items * rates.projected_training + sizes.items * rates.id_row
    seconds += _OF_A_STEP + batches.users * _USER_OF_A_STEP
    activations = sum(items * tower.tokens * sizes.upper(tower) * tower.token_bytes for tower in sizes.towers.values())
    logits = 4 * _LOGITS * batches.users * sizes.purchases * batches.items
    return Cost("", seconds, activations + logits)


def _likeness(sizes: Sizes, rates: Rates) -> float:
    """Seconds in which groups that go by the same likeness are found."""
    if sizes.settings["grouping"] != "likeness":
        return 0.0
    purchases = sizes.users * max(min(sizes.purchases, LENGTH) - 1, 0)
    predicted = min(purchases, PURCHASES) * predictions(sizes.groups)
    predicted += purchases * 2 * sizes.groups  # of every user, by what both halves of the users taught each group
    return predicted * min(sizes.items, ITEMS) * rates.loss


def _validation(sizes: Sizes, rates: Rates, groups: int) -> float:
    """Seconds of a validation that ranks every item for every user."""
    added = bool(sizes.settings["purchase_term"]) * sizes.purchases * sizes.near_items * rates.added
    ranked = sizes.users * (rates.user + sizes.items * rates.score + added) + groups * _CALLS * _OF_A_CALL
    return _encoded(sizes, rates, groups) + ranked + _searches(sizes, rates) + _followed(sizes, rates, groups)


def _followed(sizes: Sizes, rates: Rates, groups: int) -> float:
    """Seconds in which it is found what groups' modules some users' purchases go by."""
    if groups == 1 or not (may_follow(sizes.settings) and _is_soft(sizes) and _learns_content(sizes)):
        return 0.0
    purchases = sizes.users * max(sizes.purchases - 1, 0)
    return groups * min(purchases, FOLLOWED) * min(sizes.items, DRAWN_BY_CONTENT) * rates.loss


def _encoded(sizes: Sizes, rates: Rates, groups: int) -> float:
    """Seconds in which all items are encoded for so many groups, projected, and made ready to be compared."""
    vectors = rates.vectors * (_has_content(sizes) and not sizes.is_frozen)
    return groups * sizes.items * (_encoding(sizes, rates.forward) + rates.projected + vectors)


def _searched(sizes: Sizes, most: int) -> float:
    """How many users a search over ``most`` reads: of those who are ranked every so-many-th."""
    return sizes.users / math.ceil(sizes.users / most)


def _searches(sizes: Sizes, rates: Rates) -> float:
    """Seconds of a validation's search for the terms' weights: scores of parts, and all mixtures of them."""
    of_terms, views = _forms(sizes), 1 + _can_be_frozen(sizes)  # with modules and without
    if not of_terms:
        return 0.0
    _, second = rounds(sizes.items)
    if len(of_terms) == 1:
        ((part, forms),) = of_terms.items()
        forms *= views if part is Part.CONTENT else 1
        mixed = forms * len(SHARES_OF[part])
        return _of_search(sizes, rates, second, 1 + forms, mixed) + _of_search(sizes, rates, MEASURED, 1 + forms, 0)
    pairs = math.prod(of_terms.values())
    seconds = _of_search(sizes, rates, -(-second // 2), 1 + sum(of_terms.values()), pairs * len(AGAIN))
    seconds += _of_search(sizes, rates, second, 2 + views, views * len(NEAR) ** 2)
    units = 10 + sum(of_terms.values()) + (5 + views if views > 1 else 0)  # of the form in use too, beside the others
    return seconds + _of_search(sizes, rates, MEASURED, units, 0)


def _first_search(sizes: Sizes, rates: Rates) -> float:
    """Seconds that the first search takes more: a round before it, and all of it once more."""
    of_terms, (first, _) = _forms(sizes), rounds(sizes.items)
    if len(of_terms) < 2:
        return 0.0
    kept = _searched(sizes, first) * sizes.items <= KEPT
    mixed = sum(forms * len(SHARES_OF[part]) for part, forms in of_terms.items()) + len(FACTORS)
    scored = (1 if kept else 3) + sum(of_terms.values()) + 2 * len(of_terms)  # the others beside each, and together
    seconds = _of_search(sizes, rates, first, scored, mixed)
    seconds += _of_search(sizes, rates, MEASURED, 2 * len(of_terms) + sum(of_terms.values()), 0)
    return seconds + _searches(sizes, rates)


def _forms(sizes: Sizes) -> dict[Part, int]:
    """How many forms each term has that scores have."""
    return {part: len(forms) for part, forms in FORMS.items() if sizes.settings[_SETTINGS[part]]}


def _of_search(sizes: Sizes, rates: Rates, users: int, scored: int, mixed: int) -> float:
    """Seconds in which parts of some users' scores are computed, and mixed so many times or, if never, measured."""
    of_an_item = scored * rates.score + (mixed * rates.weighed if mixed else scored * rates.height)
    return _searched(sizes, users) * (rates.user + sizes.items * of_an_item)


def _carries_on(sizes: Sizes) -> bool:
    """Whether training encodes some of the items, and reads what was last computed of the others."""
    return any(sizes.batches(groups).share < 1 for groups in (1, sizes.groups))


def _block(sizes: Sizes) -> int:
    """How many users are ranked at a time."""
    return min(max(LEAST_ROWS, SCORES_OF_A_BLOCK["cpu"] // sizes.items), sizes.users)


def _memory(sizes: Sizes) -> list[Cost]:
    n, parameters = sizes.items, sum(tower.parameters for tower in sizes.towers.values())
    rows = sizes.users * (sizes.purchases + 1)  # prefixes of all parts
    at_once = max(_SCORES_AT_ONCE, 4 + sizes.groups if _is_soft(sizes) else 0)
    bytes_of_users = sizes.users * _OF_A_USER + sizes.users * (sizes.purchases + 2) * _OF_A_PURCHASE
    table = 4 * n * sizes.width
    return [
        Cost("the process", memory=_PROCESS),
        Cost("foundation model", memory=parameters * sizes.value_bytes),
        Cost("purchases", memory=bytes_of_users),
        Cost("users' lists", memory=rows * _KEPT_LISTS * sizes.settings["MAX_ITEM_LIST_LENGTH"]),
        Cost("ids, titles and hashes of items", memory=n * _OF_AN_ITEM),
        Cost("id table and its optimiser", memory=_ID_TABLES * table),
        Cost("components of items, for the grouping", memory=n * _COMPARED * 16 * (sizes.groups > 1)),
        Cost("item tables in use", memory=_split(table, sizes.groups)[0]),
        Cost("features as last computed", memory=sizes.last_features * _carries_on(sizes)),
        Cost("vectors of the content term in use", memory=_split(_vectors(sizes), _modules(sizes))[0]),
        Cost("scores of a block of users", memory=4 * _block(sizes) * n * at_once),
    ]


def _of_a_group(sizes: Sizes) -> Cost:
    """A module, its optimiser's state and average, and the group's table."""
    rank = (sizes.settings["peft_config"] or {}).get("r", 4)
    if sizes.method == "IISAN":
        bottleneck = (sizes.settings["peft_config"] or {}).get("bottleneck", 32)
        numbers = sum(sizes.states * 2 * tower.width * bottleneck for tower in sizes.towers.values())
    else:
        adapted = 0 if sizes.method == "NONE" else 2 * 2 * rank  # query and value, from the width and back
        numbers = sum(sizes.upper(tower) * adapted * tower.width for tower in sizes.towers.values())
    numbers += sizes.settings["projector_size"] * (sizes.compared_width + sizes.width)
    table = 4 * sizes.items * sizes.width
    return Cost("module, projector and their optimiser; item table", memory=5 * 4 * numbers, disk=_split(table, 1)[1])
