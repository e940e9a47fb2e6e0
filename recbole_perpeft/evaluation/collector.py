"""What full-ranking evaluation keeps of each block of users."""

import copy
from collections import defaultdict

import torch
from recbole.data.interaction import Interaction
from recbole.evaluator.collector import Collector, DataStruct

from recbole_perpeft.config.metric_checks import OF_PROBABILITIES
from recbole_perpeft.evaluation.top_items import refuse_nan, top_items
from recbole_perpeft.utils import processes
from recbole_perpeft.utils.errors import SettingError


class RankingCollector(Collector):
    """RecBole's Collector, with one look for the top k and no matrix of the positives.

    Lists end where no item is left to be ranked (:func:`~recbole_perpeft.evaluation.top_items.top_items`). What
    other metrics need is collected by RecBole's own.

    Attributes
    ----------
    of_all_processes : bool
        Whether several processes collect some of the blocks each, and are to have all of them.
    """

    of_all_processes = False

    def __init__(self, config):
        super().__init__(config)
        self._others = copy.copy(self.register)
        vars(self._others).update({"rec.items": False, "rec.topk": False})
        self._more_than_top_k = any(self.register.need(key) for key in ("rec.meanrank", "rec.score", "data.label"))
        self._collected: dict[str, list[torch.Tensor]] = defaultdict(list)

    def eval_batch_collect(
        self, scores_tensor: torch.Tensor, interaction: Interaction, positive_u: torch.Tensor, positive_i: torch.Tensor
    ) -> None:
        """Keep what the metrics need of a block of users.

        Parameters
        ----------
        scores_tensor
            ``[users, n_items]``.
        positive_u, positive_i
            Row and item of every positive, ``[n]``.

        Raises
        ------
        TrainingError
            If a score is not a number.
        """
        if self._more_than_top_k:
            self._collect_others(scores_tensor, interaction, positive_u, positive_i)
        if not (self.register.need("rec.items") or self.register.need("rec.topk")):
            return
        best = top_items(scores_tensor, max(self.topk))  # [users, k]
        if self.register.need("rec.items"):
            self._collected["rec.items"].append(best)
        if self.register.need("rec.topk"):
            positives = positive_u.to(best.device), positive_i.to(best.device)
            self._collected["rec.topk"].append(_hits(best, *positives, scores_tensor.shape[1]))

    def _collect_others(self, scores: torch.Tensor, *arguments) -> None:
        refuse_nan(scores)
        refuse_no_probabilities(self.config, scores)
        of_all, self.register = self.register, self._others
        super().eval_batch_collect(scores, *arguments)
        self.register = of_all

    def get_data_struct(self) -> DataStruct:
        """All blocks together, with the facts of the data; then the blocks are forgotten."""
        struct = DataStruct()
        for key, value in list(self.data_struct._data_dict.items()):
            if isinstance(value, torch.Tensor):
                self._collected[key].append(value)
                del self.data_struct[key]
            else:
                struct.set(key, value)
        own = {key: torch.cat(blocks).cpu() for key, blocks in self._collected.items()}
        self._collected.clear()
        parts = processes.of_all(own) if self.of_all_processes else [own]
        for key in dict.fromkeys(key for part in parts for key in part):
            struct.set(key, torch.cat([part[key] for part in parts if key in part]))
        return struct


def refuse_no_probabilities(config, scores: torch.Tensor) -> None:
    """Refuse ``scores`` that are no probabilities where metrics compare them with labels.

    Raises
    ------
    SettingError
        Names the metrics.
    """
    of_probabilities = [name for name in config["metrics"] if name.lower() in OF_PROBABILITIES]
    if of_probabilities and not 0 <= scores.min() <= scores.max() <= 1:
        raise SettingError(
            f"metrics: {', '.join(of_probabilities)} cannot be computed for {config['model']}: its scores run from "
            f"{scores.min():.3g} to {scores.max():.3g}, and only probabilities can be compared with labels. Set "
            "metrics: [AUC]."
        )


def _hits(best: torch.Tensor, positive_u: torch.Tensor, positive_i: torch.Tensor, n_items: int) -> torch.Tensor:
    """Which of ``best [users, k]`` are positives, and the number of each user's positives, ``[users, k + 1]``."""
    keys = (positive_u * n_items + positive_i).sort().values  # [positives]
    wanted = best + n_items * torch.arange(len(best), device=best.device).unsqueeze(1)  # [users, k]
    nearest = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    hits = keys[nearest] == wanted
    new = torch.ones_like(keys)  # a positive that is given twice counts once, as in RecBole
    new[1:] = keys[1:] != keys[:-1]
    numbers = new.new_zeros(len(best)).index_add_(0, keys // n_items, new)  # [users]
    return torch.cat([hits, numbers.unsqueeze(1)], dim=1)
