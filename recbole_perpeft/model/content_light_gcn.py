"""LightGCN with items that are alike in content, and a softmax over all items for its loss."""

import torch
from recbole.model.general_recommender import LightGCN
from torch.nn import functional as F

from recbole_perpeft.data.user_batch import UserBatch


class ContentLightGCN(LightGCN):
    """RecBole's LightGCN with a second graph and another loss.

    To what an item's embedding has become on the graph of purchases, the mean embedding of the items that are most like
    it is added (Zhou and Shen, A Tale of Two Graphs: Freezing and Denoising Graph Structures for Multimodal
    Recommendation, MM 2023).

    With ``loss_type: CE`` scores are cosines of the embeddings, divided by ``softmax_temperature``, and a purchase's
    loss is their cross entropy among the items that are no purchase of the user and the purchase itself (Wu et al., On
    the Effectiveness of Sampled Softmax Loss for Item Recommendation, TOIS 2024). All items have a row in every step of
    a graph model, so none needs to be sampled. With ``loss_type: BPR`` scores and loss are RecBole's.

    Attributes
    ----------
    similar_items : torch.LongTensor or None
        The most similar ones of each item, ``[n_items, k]``; None: there is no second graph.
    """

    similar_items: torch.Tensor | None = None

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.temperature = config["softmax_temperature"] if config["loss_type"] == "CE" else None

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings whose inner products are the scores, of users ``[n_users, d]`` and of items ``[n_items, d]``."""
        users, items = super().forward()
        if self.similar_items is not None:
            items = items + F.embedding_bag(self.similar_items, self.item_embedding.weight, mode="mean")
        if self.temperature is None:
            return users, items
        return F.normalize(users) / self.temperature, F.normalize(items)

    def calculate_loss(self, batch: UserBatch) -> torch.Tensor:
        """The mean loss of the batch's purchases, and ``reg_weight`` times the norms of what is propagated, ``[1]``."""
        if self.temperature is None:
            return super().calculate_loss(batch)
        users, items = self.forward()
        scores = users[batch.users] @ items.T  # [users, n_items]
        others = scores if batch.log_weights is None else scores + batch.log_weights
        others = others.masked_fill(batch.barred, -torch.inf).logsumexp(dim=1)  # [users], the same for their purchases
        user, item = batch[self.USER_ID], batch[self.ITEM_ID]  # [n]
        loss = F.softplus(others[batch.owner] - scores[batch.owner, item]).mean()
        first = self.user_embedding(user), self.item_embedding(item)
        return loss + self.reg_weight * self.reg_loss(*first, require_pow=self.require_pow)
