"""Data of a day after that of ``tiny``: other users, more items, another order, for tests of what is carried over."""

import random
import shutil

from tests.tiny_data import random_sequences, write_atomic

NEW_ITEMS = ["j0", "j1"]
GONE_ITEM = "i7"


def write_today(root, tiny_root, change_catalogue=True):
    """Write ``tiny`` of today below ``root``, with the encoder of ``tiny_root``: u3 is gone, n0 to n5 are new.

    With ``change_catalogue`` two items are new and one is gone, and users and items stand in another order; else the
    new users come after all others, in time too, and ``u3`` stays.
    """
    sequences, items = random_sequences()
    new = {f"n{number}": random.Random(number).sample(items, 5) for number in range(6)}
    if change_catalogue:
        for number, bought in enumerate(new.values()):
            bought[number % 3] = NEW_ITEMS[number % 2]
        everyone = list({**sequences, **new}.items())
        random.Random(0).shuffle(everyone)
        sequences = {user: [item for item in bought if item != GONE_ITEM] for user, bought in everyone if user != "u3"}
        items = [item for item in items if item != GONE_ITEM] + NEW_ITEMS
    else:
        sequences |= new
    place = write_atomic(root, "tiny", sequences, items)
    for item in items:  # who was there then looks as then
        if (tiny_root / "tiny" / "images" / f"{item}.png").is_file():
            shutil.copy(tiny_root / "tiny" / "images" / f"{item}.png", place / "images")
    then = (tiny_root / "tiny" / "tiny.item").read_text().splitlines()
    of_then = {line.split("\t")[0]: line for line in then}
    of_then |= {item: f"{item}\t{'camp ' * 6}\t{item[-1]}" for item in NEW_ITEMS}
    lines = (place / "tiny.item").read_text().splitlines()
    (place / "tiny.item").write_text("\n".join(of_then.get(line.split("\t")[0], line) for line in lines) + "\n")
    if not change_catalogue:
        *old, new = (place / "tiny.inter").read_text().split("\nn", 1)
        later = [line.rsplit("\t", 1) for line in f"n{new}".splitlines()]
        lines = [*old, *(f"{ids}\t{100 + int(second)}" for ids, second in later)]
        (place / "tiny.inter").write_text("\n".join(lines) + "\n")
    shutil.copytree(tiny_root / "tiny" / "clip", place / "clip")
    return root


def ids_of(dataset, field):
    """Token to id."""
    return {str(token): number for number, token in enumerate(dataset.field2id_token[field])}


def scores_of(trainer, loader, user):
    """Scores of all items for a user, a token, in the evaluation of ``loader``, by the items' tokens."""
    dataset = loader._dataset
    number = ids_of(dataset, dataset.uid_field)[user]
    trainer.model.eval()
    for interaction, *_ in loader:
        rows = (interaction[dataset.uid_field] == number).nonzero().flatten()
        if len(rows):
            values = trainer.model.full_sort_predict(interaction[rows])[0].tolist()
            return {item: values[place] for item, place in ids_of(dataset, dataset.iid_field).items()}
    raise AssertionError(f"{user} is not evaluated")
