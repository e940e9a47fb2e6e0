"""Draws in training that have no end where nothing is left to draw, or ask for more than there is."""

import functools

import torch
from recbole.data.interaction import Interaction


def apply() -> None:
    """Let every drawing of negatives in training end. Can be called twice."""
    from recbole.data.transform import MaskItemSequence
    from recbole.model.general_recommender import LINE, dgcf

    if not hasattr(MaskItemSequence._neg_sample, "__wrapped__"):
        MaskItemSequence._neg_sample = _if_any_is_left(MaskItemSequence._neg_sample)
        MaskItemSequence.__call__ = _own_item_for_none(MaskItemSequence.__call__)
    if not hasattr(LINE.sampler, "__wrapped__"):
        LINE.sampler = _nobody_for_none(LINE.sampler)
    if not hasattr(dgcf.sample_cor_samples, "__wrapped__"):
        dgcf.sample_cor_samples = _no_more_than_all(dgcf.sample_cor_samples)


def _if_any_is_left(draw):
    """``_neg_sample`` that gives 0 for a sequence with all items."""

    @functools.wraps(draw)
    def neg_sample(self, item_set, n_items):
        everything = len(set(item_set) - {0}) >= n_items - 1
        return 0 if everything else draw(self, item_set, n_items)

    return neg_sample


def _own_item_for_none(transform):
    """MaskItemSequence, with the masked item itself where no negative is left: no loss tells an item from itself."""

    @functools.wraps(transform)
    def call(self, dataset, interaction: Interaction) -> Interaction:
        interaction = transform(self, dataset, interaction)
        masked, negatives = interaction[self.POS_ITEMS], interaction[self.NEG_ITEMS]  # [n, masks] each, 0 is padding
        interaction.update(Interaction({self.NEG_ITEMS: torch.where(negatives == 0, masked, negatives)}))
        return interaction

    return call


def _no_more_than_all(draw):
    """DGCF's draw of as many users as items for its correlation loss, where there are fewer of either."""

    @functools.wraps(draw)
    def sample(n_users: int, n_items: int, number: int) -> tuple[list[int], list[int]]:
        return draw(n_users, n_items, min(number, n_users, n_items))

    return sample


def _nobody_for_none(draw):
    """LINE's ``sampler``, with the padding user for items that every user bought."""

    @functools.wraps(draw)
    def sampler(self, key_ids: torch.Tensor) -> torch.Tensor:
        some = torch.tensor([len(self.used_ids[item]) < self.n_users - 1 for item in key_ids.tolist()])  # [n]
        users = torch.zeros(len(key_ids), dtype=torch.long, device=self.device)
        users[some.to(self.device)] = draw(self, key_ids.cpu()[some])
        return users

    return sampler
