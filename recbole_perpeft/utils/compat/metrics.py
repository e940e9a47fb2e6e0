"""RecBole's metrics of the recommended lists, as their own documentation defines them.

Lists hold no padding: item 0, which stands where fewer than k items can be ranked, is no item here, and is not counted
in the catalogue.
"""

from collections import Counter

import numpy as np
import torch


def apply() -> None:
    """Repair what RecBole computes of the recommended lists, and collects for it. Can be called twice."""
    from recbole.evaluator import collector, metrics

    metrics.ItemCoverage.get_coverage = _coverage
    metrics.GiniIndex.get_gini = _gini
    metrics.ShannonEntropy.get_entropy = _entropy
    metrics.AveragePopularity.get_pop = _popularities
    metrics.AveragePopularity.metric_info = metrics.TailPercentage.metric_info = _means_of_lists
    metrics.TailPercentage.used_info = _lists_and_all_counts
    metrics.TailPercentage.get_tail = _in_tail
    if "data.num_items" not in metrics.TailPercentage.metric_need:
        metrics.TailPercentage.metric_need.append("data.num_items")  # the list that RecBole's Register reads too
    if "_collects" not in vars(collector.Collector):
        collector.Collector._collects = collector.Collector.data_collect
        collector.Collector.data_collect = _collect_facts
        collector.Collector.get_data_struct = _all_that_was_collected


def _collect_facts(self, train_data) -> None:
    """RecBole's own, with padding left out of the catalogue and every training purchase counted.

    A sequential data set has one row for each purchase but a user's first, of which RecBole does not know.
    """
    self._collects(train_data)
    dataset = train_data._dataset
    if self.register.need("data.num_items"):
        self.data_struct.set("data.num_items", dataset.item_num - 1)
    if self.register.need("data.count_items") and hasattr(dataset, "training_sequences"):
        purchases = np.concatenate(list(dataset.training_sequences().values()))
        self.data_struct.set("data.count_items", Counter(purchases.tolist()))


def _all_that_was_collected(self):
    """What the metrics need, facts of the data too, on which RecBole's own fails; users' results are then forgotten."""
    from recbole.evaluator.collector import DataStruct

    struct = DataStruct()
    for key, value in list(self.data_struct._data_dict.items()):
        of_users = isinstance(value, torch.Tensor)
        struct.set(key, value.cpu() if of_users else value)
        if of_users:
            del self.data_struct[key]
    return struct


def _times_recommended(lists: np.ndarray) -> np.ndarray:
    """How often each item is recommended that is at all, in ascending order, from ``lists [users, k]``."""
    return np.sort(np.unique(lists[lists > 0], return_counts=True)[1])


def _coverage(self, item_matrix: np.ndarray, num_items: int) -> float:
    """Share of the catalogue's items that are in anybody's list."""
    return len(_times_recommended(item_matrix)) / num_items


def _gini(self, item_matrix: np.ndarray, num_items: int) -> float:
    """Inequality of how often items are recommended: 0 if all are equally often, near 1 if one always is."""
    times = _times_recommended(item_matrix)
    places = np.arange(num_items - len(times) + 1, num_items + 1)  # items that are in no list come before
    return float(((2 * places - num_items - 1) * times).sum() / (num_items * times.sum()))


def _entropy(self, item_matrix: np.ndarray) -> float:
    """Entropy in nats of the distribution of recommendations over items; RecBole divides it by their number."""
    times = _times_recommended(item_matrix)
    shares = times / times.sum()
    return float(-(shares * np.log(shares)).sum())


def _popularities(self, item_matrix: np.ndarray, item_count: dict[int, int]) -> np.ndarray:
    """Training purchases of each recommended item, ``[users, k]``; not a number at padding."""
    counts = np.zeros(max(item_matrix.max(), max(item_count, default=0)) + 1)
    counts[list(item_count)] = list(item_count.values())
    counts[0] = np.nan
    return counts[item_matrix]


def _means_of_lists(self, values: np.ndarray) -> np.ndarray:
    """Mean of the first 1, 2, … k values of each list, ``[users, k]``, padding left out."""
    known = ~np.isnan(values)
    return np.where(known, values, 0).cumsum(axis=1) / known.cumsum(axis=1).clip(min=1)


def _lists_and_all_counts(self, dataobject) -> tuple[np.ndarray, dict[int, int]]:
    """The recommended items, and the training purchases of every item of the catalogue, of those without any too."""
    counts = dataobject.get("data.count_items")
    items = range(1, dataobject.get("data.num_items") + 1)
    return dataobject.get("rec.items").numpy(), {item: counts.get(item, 0) for item in items}


def _in_tail(self, item_matrix: np.ndarray, count_items: dict[int, int]) -> np.ndarray:
    """1 where a recommended item is of the long tail, ``[users, k]``; not a number at padding.

    The tail are the items with at most ``tail_ratio`` training purchases, or, up to 1, that share of all items, those
    with the fewest purchases (among equals, those with the lower id).
    """
    rarest_first = sorted(count_items, key=lambda item: (count_items[item], item))
    if self.tail > 1:
        tail = [item for item in rarest_first if count_items[item] <= self.tail]
    else:
        tail = rarest_first[: max(int(len(rarest_first) * self.tail), 1)]
    return np.where(item_matrix > 0, np.isin(item_matrix, tail), np.nan)
