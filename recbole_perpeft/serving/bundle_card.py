"""The model card of a bundle, with the front matter that the Hugging Face hub reads."""

import re
from collections.abc import Mapping

import yaml

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_SHOWN = (
    "peft_type", "peft_config", "peft_layers", "num_groups", "grouping", "personalised_by", "soft_groups",
    "content_term", "hidden_size", "embedding_size", "MAX_ITEM_LIST_LENGTH", "loss_type", "learning_rate", "seed",
)  # fmt: skip


def card(facts: Mapping) -> str:
    """The text of ``README.md``.

    Parameters
    ----------
    facts
        The bundle's manifest.
    """
    counts, model, dataset = facts["counts"], facts["model"], facts["dataset"]
    encoder = facts.get("encoder")
    size = sum(file["size"] for file in facts["files"].values())
    settings = {key: facts["settings"][key] for key in _SHOWN if facts["settings"].get(key) is not None}
    parts = [
        _front_matter(facts),
        f"# {model} on {dataset}",
        f"A recommender for {counts['users']:,} users and {counts['items']:,} items, trained with recbole_perpeft."
        + (f" Item pictures and titles are read by {encoder['name']}." if encoder else ""),
        "## Use",
        "```python\nfrom recbole_perpeft.serving.recommender import Recommender\n\n"
        'recommender = Recommender.load("FOLDER")\nrecommender.recommend(["USER"], k=20)\n```',
        "`FOLDER` is this folder. Nothing in it is executed when it is opened: it holds tensors, arrays and texts, "
        "whose sizes and hashes are checked.",
        "It is meant to recommend items of this catalogue to these users"
        + (" and to users whose purchases are of these items." if "MAX_ITEM_LIST_LENGTH" in settings else ".")
        + " It repeats what buyers of the training did, their habits and omissions included, and says nothing of "
        "why an item suits a person.",
        "## What it holds about users",
        f"Ids of {counts['users']:,} users and all their {counts['purchases']:,} purchases, with times where the data "
        "have them"
        + (", and the group of each user" if encoder else "")
        + ". They are needed to recommend: share the folder only where these data may be shared.",
        "## Data and settings",
        _table(("data set", "users", "items", "purchases"), [(dataset, *(f"{n:,}" for n in counts.values()))]),
        _table(("setting", "value"), [(f"`{key}`", f"`{value}`") for key, value in settings.items()]),
        "`bundle.json` has all settings and the versions of the packages.",
        "## Metrics",
        *_metrics(facts["metrics"]),
        "## Size",
        f"{size:,} bytes in {len(facts['files'])} files. "
        + (
            "`adapters/` has the modules of the groups, `tables/` the items as each group sees them." if encoder else ""
        ),
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _front_matter(facts: Mapping) -> str:
    encoder = facts.get("encoder")
    tags = ["recommendation", "recbole", "recbole_perpeft", *(["peft", "multimodal"] if encoder else [])]
    matter = {"library_name": "recbole_perpeft", "tags": tags}
    bases = [name for name in (encoder or {}).get("names", ()) if _HUB_NAME.fullmatch(name)]
    if bases:  # a folder is no model of the hub
        matter["base_model"] = bases
        matter["base_model_relation"] = "adapter"
    return f"---\n{yaml.safe_dump(matter, sort_keys=False)}---"


def _metrics(found: Mapping) -> list[str]:
    parts = {part: values for part, values in found.items() if values}
    if not parts:
        return ["None were given."]
    names = list(dict.fromkeys(name for values in parts.values() for name in values))
    rows = [(name, *(f"{values[name]:.4f}" if name in values else "" for values in parts.values())) for name in names]
    return [_table(("metric", *parts), rows)]


def _table(head: tuple, rows: list[tuple]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
