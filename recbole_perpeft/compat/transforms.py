"""What RecBole does to sequences before a model reads them (``transform``), in training and in evaluation."""

import functools

import torch
from recbole.data.interaction import Interaction


def apply() -> None:
    """Keep what is random out of evaluation, and let every drawing of negatives end. Can be called twice."""
    from recbole.data.dataloader import FullSortEvalDataLoader, NegSampleEvalDataLoader
    from recbole.data.transform import MaskItemSequence

    for loader in (FullSortEvalDataLoader, NegSampleEvalDataLoader):
        if not hasattr(loader.__init__, "__wrapped__"):
            loader.__init__ = _without_random_transform(loader.__init__)
    if not hasattr(MaskItemSequence._neg_sample, "__wrapped__"):
        MaskItemSequence._neg_sample = _if_any_is_left(MaskItemSequence._neg_sample)
        MaskItemSequence.__call__ = _own_item_for_none(MaskItemSequence.__call__)


def _without_random_transform(make):
    """A loader's ``__init__`` that leaves training's masking, cropping and reordering to training.

    No model reads in evaluation what they make. InverseItemSequence stays: it draws nothing, and SHAN reads it.
    """
    from recbole.data.transform import CropItemSequence, Equal, MaskItemSequence, ReorderItemSequence

    @functools.wraps(make)
    def init(self, config, *args, **kwargs):
        make(self, config, *args, **kwargs)
        if isinstance(self.transform, MaskItemSequence | CropItemSequence | ReorderItemSequence):
            self.transform = Equal(config)

    return init


def _if_any_is_left(draw):
    """``_neg_sample`` that gives 0 for a sequence with all items, instead of drawing for ever."""

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
