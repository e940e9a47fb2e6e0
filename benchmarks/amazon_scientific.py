"""Write the amazon-scientific data as RecBole's atomic files.

    python benchmarks/amazon_scientific.py --source /path/to/amazon-scientific --out /path/to/datasets

``source`` holds ``items.tsv`` (asin, title) and ``users.tsv`` (user, asins oldest first, separated by spaces).
There are no dates: a purchase's timestamp is its place in the user's sequence.
"""

import argparse
import csv
from pathlib import Path

NAME = "amazon-scientific"


def convert(source: Path, out: Path) -> Path:
    """Write ``<out>/amazon-scientific/amazon-scientific.inter`` and ``.item``; returns their folder.

    Raises
    ------
    FileNotFoundError
        If ``source`` lacks one of its two files.
    """
    folder = out / NAME
    folder.mkdir(parents=True, exist_ok=True)
    with open(source / "users.tsv", encoding="utf-8") as users, open(folder / f"{NAME}.inter", "w") as inter:
        inter.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for line in users:
            user, items = line.rstrip("\n").split("\t")
            inter.writelines(f"{user}\t{item}\t{place}\n" for place, item in enumerate(items.split()))
    with (
        open(source / "items.tsv", encoding="utf-8") as items,
        open(folder / f"{NAME}.item", "w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["item_id:token", "title:token_seq"])
        writer.writerows(line.rstrip("\n").split("\t", 1) for line in items)
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    print(f"Written: {convert(arguments.source, arguments.out)}")
