"""What a training run takes: seconds of each epoch, seconds in all, memory."""

import resource
import statistics
import sys
import time

import torch
from recbole.trainer import Trainer


class Costs:
    """Takes notes after each training epoch, where a trainer has a place for them in the checkpoint that follows.

    Parameters
    ----------
    trainer
        Resumed already, if it is: the notes of its checkpoint are continued.
    began
        ``time.perf_counter()`` at the start of this process's share of the run.

    Attributes
    ----------
    notes : dict
        ``epochs`` (number and seconds of each training epoch), ``seconds`` (in all, preparation and validations
        included) and ``peak_memory_mib`` (of the process, or of the GPU where one is used).
    """

    def __init__(self, trainer: Trainer, began: float):
        self.notes = getattr(trainer, "notes", {})
        self._device = trainer.config["device"]
        self._before, self._began = self.notes.get("seconds", 0.0), began
        self._train_epoch = trainer._train_epoch
        self.notes.setdefault("epochs", [])
        trainer._train_epoch = self._timed

    def _timed(self, train_data, epoch_idx, *args, **kwargs):
        began = time.perf_counter()
        loss = self._train_epoch(train_data, epoch_idx, *args, **kwargs)
        self.notes["epochs"].append((epoch_idx, time.perf_counter() - began))
        self.note()
        return loss

    def note(self) -> None:
        """Bring time and memory up to date."""
        self.notes["seconds"] = self._before + time.perf_counter() - self._began
        self.notes["peak_memory_mib"] = max(self.notes.get("peak_memory_mib", 0.0), _peak_memory(self._device))

    def median_epoch(self, first: int) -> float:
        """Median seconds of the training epochs from ``first`` on (of all, if there is none), 0 without any."""
        seconds = [of_epoch for epoch, of_epoch in self.notes["epochs"] if epoch >= first]
        return statistics.median(seconds or [of_epoch for _, of_epoch in self.notes["epochs"]] or [0.0])


def _peak_memory(device: torch.device) -> float:
    """MiB of this process (of the GPU, where one is used)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
