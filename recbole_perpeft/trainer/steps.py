"""Steps of the optimiser on RecBole's Trainer: on a batch, or on batches whose items are encoded together."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from recbole.trainer import Trainer
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from recbole_perpeft.data.dataloader import UserBatchLoader
from recbole_perpeft.data.user_batch import UserBatch
from recbole_perpeft.trainer.optimizer import parameter_groups
from recbole_perpeft.trainer.weight_average import WeightAverage
from recbole_perpeft.utils.errors import TrainingError

GLOBAL, PERSONALISED = "global", "personalised"


class StepTrainer(Trainer):
    """RecBole's Trainer with our optimiser and our steps.

    Attributes
    ----------
    stage : str
        :data:`GLOBAL` or :data:`PERSONALISED`.
    average : WeightAverage or None
        Of what the optimiser trains, with ``averaging_epochs``.
    """

    def __init__(self, config, model):
        self.stage = GLOBAL
        super().__init__(config, model)

    def _build_optimizer(self, **kwargs):
        groups = parameter_groups(self.model, self.learning_rate, self.config["peft_learning_rate"])
        self.average = None
        if self.config["averaging_epochs"]:  # stage 3 starts from the average of stage 1
            self.average = WeightAverage(self.model.trainable_parameters(), forgets_start=self.stage == GLOBAL)
        if self.learner.lower() == "adamw":  # on a GPU one kernel for all small modules
            fused = self.device.type == "cuda"
            optimizer = AdamW(groups, lr=self.learning_rate, weight_decay=self.weight_decay, fused=fused)
        else:
            optimizer = super()._build_optimizer(params=groups, **kwargs)
        self._learning_rates = [group["lr"] for group in optimizer.param_groups]
        return optimizer

    def train_batches(self, loader: UserBatchLoader) -> Iterator[tuple[int, torch.Tensor]]:
        """Train on an epoch's batches, some at a time; gives how many these were, and the sum of their losses."""
        if self.average:
            self.average.horizon = self.config["averaging_epochs"] * len(loader)
        for batches in loader.windows(self.config["batches_per_encoding"]):
            yield len(batches), self.train_window(batches)

    def train_window(self, batches: list[UserBatch]) -> torch.Tensor:
        """Encode the items of some batches of one group together and take a step on each.

        The backbone, the id embeddings and the projector move at every batch; the PEFT module at the last one, by the
        sum of the batches' gradients at the encoder's features.

        Parameters
        ----------
        batches
            Batches of one group, as they come from the loader.

        Returns
        -------
        torch.Tensor
            Sum of the losses, without gradient.

        Raises
        ------
        TrainingError
            If they do not fit into memory.
        """
        total = torch.zeros((), device=self.device)
        items = batches[0].items if len(batches) == 1 else torch.cat([batch.items for batch in batches]).unique()
        with self._window(items, batches[0].group) as backward_through_encoder:
            for batch in batches:
                self.optimizer.zero_grad()
                total += self._backward(batch)
                if batch is batches[-1]:
                    backward_through_encoder()
                self._step()
        return total

    def _backward(self, batch: UserBatch) -> torch.Tensor:
        """Add the gradient of a batch's loss; gives the loss, without gradient."""
        with torch.autocast(self.device.type, enabled=self.enable_amp):
            loss = self.model.calculate_loss(batch.to(self.device))
        loss.backward()
        return loss.detach().sum()  # some backbones give it as [1]

    def _step(self) -> None:
        if self.clip_grad_norm:
            clip_grad_norm_(self.model.parameters(), **self.clip_grad_norm)
        self.optimizer.step()
        if self.average:
            self.average.update()

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Let the model hold the average of its weights for a while, if there is one."""
        if self.average is None:
            yield
            return
        self.model.item_tower.forget()
        with self.average.in_use():
            yield
        self.model.train()  # drops what a backbone has propagated
        self.model.item_tower.forget()

    @contextmanager
    def _window(self, items: torch.Tensor, group: int) -> Iterator[Callable[[], None]]:
        """The item tower's window of ``items``; what is done in it may run out of memory, which names the settings."""
        portion = self.config["encoding_batch_size"]
        try:
            with self.model.item_tower.window(items, group, portion) as backward_through_encoder:
                yield backward_through_encoder
        except RuntimeError as error:
            # a CPU has no class of its own for it, and mostly kills the process instead
            if not (isinstance(error, torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error)):
                raise
            raise TrainingError(
                f"The {len(items)} items of a training step do not fit into memory. Set encoding_batch_size "
                f"(now {portion or '~'}) to fewer, or lower users_per_batch "
                f"({self.config['users_per_batch']}), num_negatives, batches_per_encoding or peft_layers."
            ) from error
