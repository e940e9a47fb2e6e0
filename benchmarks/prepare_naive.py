"""What a script for one evening makes of Amazon Reviews 2023: ``json.loads`` a line, and pandas.

``benchmarks/prepare.py`` holds ``prepare`` against it.
"""

import csv
import gzip
import json
import sys
from pathlib import Path

import pandas as pd


def lines_of(path: Path) -> pd.DataFrame:
    """All objects of a file."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as file:
        return pd.DataFrame([json.loads(line) for line in file])


def main(words: list[str]) -> None:
    """``REVIEWS META --out FOLDER K``."""
    reviews_file, meta_file, _, out, k = words
    folder = Path(out) / "Shop"
    folder.mkdir(parents=True, exist_ok=True)
    reviews = lines_of(Path(reviews_file))[["user_id", "parent_asin", "timestamp", "rating"]]
    earliest = reviews.sort_values("timestamp", kind="stable").drop_duplicates(["user_id", "parent_asin"])
    reviews, before = reviews.loc[sorted(earliest.index)], -1
    while len(reviews) != before:
        before = len(reviews)
        for column in ("user_id", "parent_asin"):
            reviews = reviews[reviews.groupby(column)[column].transform("size") >= int(k)]
    names = {"user_id": "user_id:token", "parent_asin": "item_id:token", "timestamp": "timestamp:float",
             "rating": "rating:float"}  # fmt: skip
    reviews.rename(columns=names).to_csv(folder / "Shop.inter", sep="\t", index=False)
    products = lines_of(Path(meta_file)).drop_duplicates("parent_asin")
    products = products[products["parent_asin"].isin(set(reviews["parent_asin"]))]
    titles = products[["parent_asin", "title"]].rename(
        columns={"parent_asin": "item_id:token", "title": "title:token_seq"}
    )
    titles.to_csv(folder / "Shop.item", sep="\t", index=False, quoting=csv.QUOTE_MINIMAL)
    urls = {}
    for product, pictures in zip(products["parent_asin"], products["images"], strict=True):
        main_picture = next((one for one in pictures if one["variant"] == "MAIN"), None)
        if main_picture:
            urls[product] = [main_picture[size] for size in ("hi_res", "large", "thumb") if main_picture[size]]
    with open(folder / "Shop.urls.tsv", "w") as file:
        file.writelines("\t".join([product, *addresses]) + "\n" for product, addresses in urls.items())


if __name__ == "__main__":
    main(sys.argv[1:])
