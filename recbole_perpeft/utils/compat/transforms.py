"""What RecBole does to sequences before a model reads them (``transform``): in evaluation, nothing random."""

import functools


def apply() -> None:
    """Leave random transforms to training. Can be called twice."""
    from recbole.data.dataloader import FullSortEvalDataLoader, NegSampleEvalDataLoader

    for loader in (FullSortEvalDataLoader, NegSampleEvalDataLoader):
        if not hasattr(loader.__init__, "__wrapped__"):
            loader.__init__ = _without_random_transform(loader.__init__)


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
