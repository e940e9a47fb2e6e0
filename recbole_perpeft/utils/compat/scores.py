"""One score for a user and an item, whichever way it is asked for.

RecBole ranks all items with ``full_sort_predict`` (``mode: full``) and a few with ``predict`` (``uni100``, ``pop100``).
In some of its models the two disagree, neither is what the model was trained for, or a pair takes much longer than it
has to.
"""

from collections.abc import Callable

import numpy as np
import recbole
import torch
from recbole.data.interaction import Interaction
from torch.nn import functional as F

# Tables that models derive from their weights and keep between evaluations.
_KEPT_TABLES = ("restore_user_e", "restore_item_e", "restore_entity_e", "i_embedding")

_MAPS = 256  # of pairs, 4 MB at ConvNCF's defaults: for more is new memory at every call, which takes thrice as long


def apply() -> None:
    """Repair how RecBole's models score. Can be called twice."""
    from recbole.model import sequential_recommender
    from recbole.model.abstract_recommender import AbstractRecommender
    from recbole.model.general_recommender import ADMMSLIM, FISM, ConvNCF, Pop, Random
    from recbole.model.general_recommender import admmslim as admmslim_module
    from recbole.model.sequential_recommender import CORE, SHAN

    SHAN.full_sort_predict = _full_sort_predict_of_shan
    CORE.predict = _predict_of_core
    FISM.predict = _predict_of_fism
    ConvNCF.predict = _predict_of_convncf
    of_1_2_1 = [vars(sequential_recommender).get(name) for name in ("GRU4RecCPR", "SASRecCPR")]
    for model in (ADMMSLIM, Pop, Random, *filter(None, of_1_2_1)):
        model.predict = _pick_from_all
    admmslim_module.add_noise = _as_it_is
    Random.full_sort_predict = _full_sort_predict_of_random
    if "_counts_batches" not in vars(Pop):
        Pop._counts_batches = Pop.__init__
        Pop.__init__ = _init_of_pop
        Pop.calculate_loss = _loss_of_pop
    if "_draws_anew" not in vars(Random):
        Random._draws_anew = Random.__init__
        Random.__init__ = _init_of_random
    AbstractRecommender.load_state_dict = _forgetting(AbstractRecommender)
    if recbole.__version__ == "1.2.0":
        _evaluate_without_dropout()


def _full_sort_predict_of_shan(self, interaction: Interaction) -> torch.Tensor:
    """Scores of all items, ``[n, n_items]``, from the order of purchases that SHAN trains on: the latest at the end.

    RecBole's own reads the padded end of the sequence as the latest purchases.
    """
    if self.INVERSE_ITEM_SEQ in interaction:
        inverse = interaction[self.INVERSE_ITEM_SEQ]
    else:  # sequences that no loader gave: rotated so that the padding comes first, as the loaders' transform has it
        sequences, lengths = interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN]  # [n, length], [n]
        length = sequences.shape[1]
        places = (torch.arange(length, device=sequences.device) + lengths[:, None]) % length
        inverse = sequences.gather(1, places)
    output = self.forward(inverse, interaction[self.USER_ID])  # [n, length] to [n, d]
    return output @ self.item_embedding.weight.transpose(0, 1)


def _predict_of_core(self, interaction: Interaction) -> torch.Tensor:
    """Score of each row's item, ``[n]``, by the cosine that CORE trains on; RecBole's own keeps the item's length."""
    output = self.forward(interaction[self.ITEM_SEQ])  # [n, d]
    items = F.normalize(self.item_embedding(interaction[self.ITEM_ID]), dim=-1)  # [n, d]
    return (output * items).sum(dim=1) / self.temperature


def _predict_of_fism(self, interaction: Interaction) -> torch.Tensor:
    """Score of each row's item, ``[n]``; RecBole's own goes through two sigmoids, after which most scores are one."""
    users, items = interaction[self.USER_ID], interaction[self.ITEM_ID]
    history = self.item_src_embedding(self.history_item_matrix[users])  # [n, longest, d]
    target = self.item_dst_embedding(items).unsqueeze(2)  # [n, d, 1]
    similarity = (history @ target).squeeze(2) * self.mask_mat[users]  # [n, longest]
    share = self.history_lens[users].float().pow(-self.alpha)  # [n]
    return share * similarity.sum(dim=1) + self.user_bias[users] + self.item_bias[items]


def _predict_of_convncf(self, interaction: Interaction) -> torch.Tensor:
    """Score of each row's item, ``[n]``, as RecBole's own, with the maps of some pairs in memory at a time."""
    pairs = zip(interaction[self.USER_ID].split(_MAPS), interaction[self.ITEM_ID].split(_MAPS), strict=True)
    return torch.cat([self.forward(users, items) for users, items in pairs])


def _pick_from_all(self, interaction: Interaction) -> torch.Tensor:
    """Score of each row's item among those of all, ``[n]``, of the type that RecBole's trainers collect."""
    scores = self.full_sort_predict(interaction).view(len(interaction), -1).float()  # [n, n_items]
    items = interaction[self.ITEM_ID].to(scores.device)
    return scores.gather(1, items[:, None]).squeeze(1)


def _as_it_is(scores: torch.Tensor) -> torch.Tensor:
    """Stands for the noise that RecBole adds to ADMMSLIM's scores, which is larger than many of their differences."""
    return scores


def _init_of_random(self, config, dataset) -> None:
    self._draws_anew(config, dataset)
    self._seed = config["seed"]


def _full_sort_predict_of_random(self, interaction: Interaction) -> torch.Tensor:
    """Scores of all items, ``[n, n_items]``, for each user other ones and at each call the same.

    RecBole's own gives all users of a batch the same list.
    """
    generator = torch.Generator()
    rows = []
    for user in interaction[self.USER_ID].tolist():
        generator.manual_seed(self._seed * self.n_users + user)
        rows.append(torch.rand(self.n_items, generator=generator))
    return torch.stack(rows).to(self.device)


def _init_of_pop(self, config, dataset) -> None:
    """RecBole's own, with the purchases of each item counted: it counts the batches that an item, drawn as a negative
    or bought, is in.
    """
    self._counts_batches(config, dataset)
    counts = np.bincount(dataset.inter_feat[self.ITEM_ID].numpy(), minlength=self.n_items)
    self.item_cnt = torch.from_numpy(counts).unsqueeze(1).to(self.device)  # [n_items, 1]
    self.max_cnt = self.item_cnt.max(dim=0).values


def _loss_of_pop(self, interaction: Interaction) -> torch.Tensor:
    return torch.zeros(1, device=self.device, requires_grad=True)


def _forgetting(model: type) -> Callable:
    """``load_state_dict`` for ``model``: torch's, and what was derived from the weights before is forgotten."""

    def load_state_dict(self, *args, **kwargs):
        for name in _KEPT_TABLES:
            if getattr(self, name, None) is not None:
                setattr(self, name, None)
        return super(model, self).load_state_dict(*args, **kwargs)

    return load_state_dict


def _evaluate_without_dropout() -> None:
    """Let RecBole 1.2.0's NGCF and GRU4RecKG rank without dropout.

    Each of their forward passes makes a dropout layer anew, which is in training mode; 1.2.1 keeps the layer.
    """
    from recbole.model.general_recommender.ngcf import NGCF
    from recbole.model.sequential_recommender.gru4reckg import GRU4RecKG

    NGCF.message_dropout = _in_training_only("message_dropout")
    GRU4RecKG.dropout = _in_training_only("dropout")


def _in_training_only(name: str) -> property:
    """A number of a module that is zero where it is not training."""

    def get(module):
        return vars(module)[name] if module.training else 0.0

    def put(module, value):
        vars(module)[name] = value

    return property(get, put)
