"""RecBole's trainers in several processes: on CPUs too, and with one TensorBoard."""

import torch
from recbole.trainer import trainer as trainer_module
from recbole.trainer.trainer import AbstractTrainer
from torch.nn.parallel import DistributedDataParallel

from recbole_perpeft.utils import processes


def apply() -> None:
    """Make both repairs. Can be called twice."""
    if AbstractTrainer.__init__ is not _init:
        AbstractTrainer.__init__ = _init
        write = trainer_module.get_tensorboard
        trainer_module.get_tensorboard = lambda logger: write(logger) if processes.is_first() else _Nothing()


def _init(self, config, model):
    """As RecBole's, which names a GPU to DistributedDataParallel whatever the device.

    Batch normalisation has a form for several processes on GPUs only; on CPUs each has the moments of its own rows.
    """
    self.config, self.model = config, model
    if config["single_spec"]:
        return
    on_gpu = config["device"].type == "cuda"
    if on_gpu:
        self.model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    self.distributed_model = DistributedDataParallel(self.model, device_ids=[config["local_rank"]] if on_gpu else None)


class _Nothing:
    """In the place of a SummaryWriter, where another process writes."""

    log_dir = None

    def add_scalar(self, *arguments, **named) -> None:
        """Nothing is written."""

    def add_hparams(self, *arguments, **named) -> None:
        """Nothing is written."""

    def close(self) -> None:
        """Nothing is open."""
