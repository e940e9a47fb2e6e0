"""The best of a few candidates in validation, for a model that has nothing to train."""

from recbole.utils import set_color
from tqdm import tqdm

from recbole_perpeft.trainer.telling_trainer import TellingTrainer
from recbole_perpeft.trainer.term_weights import find_term_weights


class NeighboursTrainer(TellingTrainer):
    """RecBole's Trainer for :mod:`~recbole_perpeft.model.content_neighbours`, which validates candidates.

    Attributes
    ----------
    chosen : str
        What was the best, in words.
    """

    chosen = ""

    def fit(self, train_data, valid_data=None, verbose=True, saved=True, show_progress=False, callback_fn=None):
        """Validate every candidate, and keep the best; without validation the first.

        Returns
        -------
        tuple
            Best validation score and result, as RecBole's ``fit``.
        """
        model, best, best_score = self.model, 0, self.best_valid_score
        self.eval_collector.data_collect(train_data)
        if model.purchase_term is not None:
            model.purchase_term.weight.zero_()  # of an earlier choice: candidates are judged without it
        numbers = range(len(model.candidates)) if valid_data else []
        for number in tqdm(numbers, ncols=100, desc="Candidates", disable=not show_progress):
            model.choose(number)
            score, result = self._valid_epoch(valid_data)
            if not number or (score > best_score if self.valid_metric_bigger else score < best_score):
                best, best_score, self.best_valid_result = number, score, result
            if verbose:
                self.logger.info(f"{_named(model.chosen)}: {self.valid_metric} {score:.4f}")
            if callback_fn:
                callback_fn(number, score)
        model.choose(best)
        self.best_valid_score = best_score
        self.chosen = _named(model.chosen)
        if valid_data and model.purchase_term is not None:
            find_term_weights(self, valid_data)
            self.best_valid_score, self.best_valid_result = self._valid_epoch(valid_data)
            self.chosen += f", purchases weighing {float(model.purchase_term.weight):.3g}"
        if verbose:
            self.logger.info(set_color("Chosen", "pink") + f": {self.chosen}")
        if saved:
            self._save_checkpoint(best, verbose=verbose)
        return self.best_valid_score, self.best_valid_result


def _named(candidate: tuple) -> str:
    modalities, form, decay = candidate
    return f"{' and '.join(modalities)}, {form}, decay {decay}"
