"""Write a synthetic data set: RecBole's atomic files and one picture per item.

    python -m dataset.make.demo --seed 2026 --out dataset/demo

writes the embedded demo; other sizes and seeds make other catalogues of the same kind.
"""

import argparse
from pathlib import Path

from PIL import Image

from dataset.make.catalogue import Catalogue, make_catalogue
from dataset.make.purchases import Purchases, make_purchases

SEED = 2026
N_ITEMS = 640
N_USERS = 2000
SIDE = 48

# pictures in memory at a time
_BATCH = 256


def write_atomic_files(catalogue: Catalogue, purchases: Purchases, folder: Path) -> None:
    """Write ``<name>.inter`` and ``<name>.item``, where name is the folder's.

    Parameters
    ----------
    catalogue : Catalogue
        The items.
    purchases : Purchases
        The interactions.
    folder : Path
        An existing folder.
    """
    item_ids, user_ids = catalogue.item_ids, purchases.user_ids
    rows = zip(purchases.users, purchases.items, purchases.timestamps, strict=True)
    inter = ["user_id:token\titem_id:token\ttimestamp:float"]
    inter += [f"{user_ids[user]}\t{item_ids[item]}\t{timestamp}" for user, item, timestamp in rows]
    (folder / f"{folder.name}.inter").write_text("\n".join(inter) + "\n", encoding="utf-8", newline="\n")

    described = zip(item_ids, catalogue.titles, catalogue.categories, strict=True)
    item = ["item_id:token\ttitle:token_seq\tcategory:token"] + ["\t".join(row) for row in described]
    (folder / f"{folder.name}.item").write_text("\n".join(item) + "\n", encoding="utf-8", newline="\n")


def write_pictures(catalogue: Catalogue, side: int, folder: Path) -> None:
    """Write ``<item_id>.png`` for every item.

    Parameters
    ----------
    catalogue : Catalogue
        The items.
    side : int
        Side of the square pictures in pixels.
    folder : Path
        An existing folder.
    """
    item_ids = catalogue.item_ids
    for start in range(0, len(catalogue), _BATCH):
        pictures = catalogue.pictures(side, slice(start, start + _BATCH))
        for item_id, picture in zip(item_ids[start : start + _BATCH], pictures, strict=True):
            Image.fromarray(picture).save(folder / f"{item_id}.png")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, default=Path("dataset/demo"), help="folder; its name is the data set's")
    parser.add_argument("--n_items", type=int, default=N_ITEMS)
    parser.add_argument("--n_users", type=int, default=N_USERS)
    parser.add_argument("--side", type=int, default=SIDE, help="side of the pictures in pixels")
    parser.add_argument("--same_aspects", action="store_true", help="all users look at the same aspects")
    args = parser.parse_args(arguments)

    catalogue = make_catalogue(args.n_items, args.seed)
    purchases = make_purchases(catalogue, args.n_users, args.seed, args.same_aspects)
    images = args.out / "images"
    images.mkdir(parents=True, exist_ok=True)
    write_atomic_files(catalogue, purchases, args.out)
    write_pictures(catalogue, args.side, images)
    print(f"{len(catalogue)} items, {args.n_users} users, {len(purchases.items)} purchases in {args.out}")


if __name__ == "__main__":
    main()
