"""The settings of tiny runs."""

from recbole_perpeft.config import Config
from recbole_perpeft.config.registry import find_model, is_perpeft
from recbole_perpeft.config.setting_effects import unread

TINY = {
    "hidden_size": 16, "inner_size": 16, "n_layers": 1, "MAX_ITEM_LIST_LENGTH": 8, "projector_size": 8, "num_groups": 3,
    "users_per_batch": 8, "num_negatives": 4, "epochs": 4, "global_epochs": 2, "topk": [5, 10],
    "valid_metric": "NDCG@10",
    # forty random users have no interests to find: k-means may leave one alone, so tests of it say so
    "grouping": "random", "show_progress": False, "content_workers": 1, "peft_config": {"r": 2}, "learning_rate": 0.01,
    "precision": "fp32", "use_gpu": False, "correct_sampling": False, "averaging_epochs": None,
}  # fmt: skip


def tiny_config(root, model="PerPEFTSASRec", dataset="tiny", **settings):
    """Config of a tiny run on a data set of ``root``, which writes below the working directory."""
    paths = {"data_path": str(root), "content_cache": str(root / "cache"), "encoder": "clip"}
    model_class = find_model(model) if isinstance(model, str) else model
    unused = unread(model_class) if is_perpeft(model_class) else ()
    small = {key: value for key, value in TINY.items() if key not in unused}
    return Config(model, dataset, config_dict={**small, **paths, **settings})
