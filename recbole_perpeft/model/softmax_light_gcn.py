"""LightGCN whose loss is a softmax over all items, where RecBole's sets one item against each purchase."""

import torch
from recbole.model.general_recommender import LightGCN
from torch.nn import functional as F

from recbole_perpeft.data.user_batch import UserBatch


class SoftmaxLightGCN(LightGCN):
    """RecBole's LightGCN with another loss; with ``loss_type: BPR`` it is RecBole's.

    With ``loss_type: CE`` scores are cosines of propagated embeddings, and a purchase's loss is the cross entropy of
    these over ``softmax_temperature``, among the items that are no purchase of the user and the purchase itself (Wu et
    al., On the Effectiveness of Sampled Softmax Loss for Item Recommendation, TOIS 2024). All items have a row in every
    step of a graph model, so none needs to be sampled.
    """

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.temperature = config["softmax_temperature"] if config["loss_type"] == "CE" else None

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Propagated embeddings of users and items, ``[n_users, d]`` and ``[n_items, d]``; of length 1 for cosines."""
        users, items = super().forward()
        return (users, items) if self.temperature is None else (F.normalize(users), F.normalize(items))

    def calculate_loss(self, batch: UserBatch) -> torch.Tensor:
        """The mean loss of the batch's purchases, and ``reg_weight`` times the norms of what is propagated, ``[1]``."""
        if self.temperature is None:
            return super().calculate_loss(batch)
        users, items = self.forward()
        scores = (users[batch.users] / self.temperature) @ items.T  # [users, n_items]
        others = scores if batch.log_weights is None else scores + batch.log_weights
        others = others.masked_fill(batch.barred, -torch.inf).logsumexp(dim=1)  # [users], the same for their purchases
        user, item = batch[self.USER_ID], batch[self.ITEM_ID]  # [n]
        loss = F.softplus(others[batch.owner] - scores[batch.owner, item]).mean()
        first = self.user_embedding(user), self.item_embedding(item)
        return loss + self.reg_weight * self.reg_loss(*first, require_pow=self.require_pow)
