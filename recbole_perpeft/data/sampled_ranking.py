"""Ranking among drawn items (``uni100``, ``pop100``): the same ones for every model, epoch and process."""

import numpy as np
from recbole.data.dataloader import NegSampleEvalDataLoader
from recbole.data.interaction import Interaction

_PARTS = {"valid": 1, "test": 2}


class SampledRankingLoader(NegSampleEvalDataLoader):
    """RecBole's loader, with candidates that follow from ``sample_seed``, the part of the data and the user alone.

    RecBole draws them from numpy's global generator, after whatever was drawn before: another model, or the same one
    loaded from its checkpoint, is then tested among other items, and a validation moves the draws of training.
    """

    def _neg_sampling(self, inter_feat: Interaction) -> Interaction:
        """The purchases of one user with their candidates."""
        state = np.random.get_state()
        user = int(inter_feat[self._dataset.uid_field][0])
        np.random.seed([self.config["sample_seed"], _PARTS[self._sampler.phase], user])
        try:
            return super()._neg_sampling(inter_feat)
        finally:
            np.random.set_state(state)
