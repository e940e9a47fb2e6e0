"""Steps of the optimiser: on a batch, or on batches whose items are encoded together."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import numpy as np
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from recbole_perpeft.data.dataloader import UserBatchLoader
from recbole_perpeft.data.encoding_windows import FEWEST
from recbole_perpeft.data.user_batch import UserBatch
from recbole_perpeft.trainer.optimizer import peft_learning_rate, set_learning_rates, set_peft_learning_rate
from recbole_perpeft.trainer.weight_average import WeightAverage
from recbole_perpeft.utils import processes
from recbole_perpeft.utils.errors import TrainingError
from recbole_perpeft.utils.random_state import OwnDraws


class Steps:
    """Moves the weights of a model by its batches' losses, and their average with them.

    Several processes take each step together, on the same batches: each encodes some of the items for all, and has some
    of the users. The losses and gradients of all add up to those of one process with all items and users.

    Parameters
    ----------
    model
        A PerPEFT model.
    optimizer
        Of what the model trains.
    average
        Of the same parameters, with ``averaging_epochs``; else None.
    config : recbole_perpeft.config.Config
        The settings.

    Attributes
    ----------
    optimizer, average
        As given.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, average: WeightAverage | None, config):
        self._model, self.optimizer, self.average, self._config = model, optimizer, average, config
        self._device = config["device"]
        self._draws: OwnDraws | None = None
        self._share = 1.0  # of a window's items that is encoded ...
        self._sampler = torch.Generator()  # ... and who draws them: no dropout draws between

    def begin_epoch(self, loader: UserBatchLoader) -> None:
        """Before the first step of an epoch: have what items that it does not encode are carried on from.

        It is what an evaluation of the weights as they are validated leaves or would, whether there was one or not: so
        a run that is resumed goes on from the same.
        """
        self._sampler.manual_seed(torch.initial_seed())
        tower, before = self._model.item_tower, self._share
        self._share = loader.encoding.share if self._may_sample and tower.can_carry_on else 1.0
        lacking = tower.lacking(np.unique(loader.groups[loader.users]).tolist()) if self._share < 1 else []
        if lacking:
            with self.averaged():
                tower.have_last(lacking)
        elif before < 1 == self._share:
            self._model.forget()

    @property
    def _may_sample(self) -> bool:
        """Not where a setting says what is encoded, or no evaluation says what the others were."""
        return self._config["batches_per_encoding"] is None and self._config["eval_step"] > 0

    def train(self, loader: UserBatchLoader) -> Iterator[tuple[int, torch.Tensor]]:
        """Train on an epoch's batches, some at a time; gives how many these were, and the sum of their losses.

        Of several processes each gives its part of the sum. Their generators are to be in the same state, from which
        batches follow; dropout of what each has for itself is drawn apart.
        """
        if processes.count() > 1:
            seeds = np.random.SeedSequence([torch.initial_seed(), processes.rank()])
            self._draws = OwnDraws(int(seeds.generate_state(1)[0]))
        if self.average:
            self.average.horizon = self._config["averaging_epochs"] * len(loader)
        together = self._config["batches_per_encoding"] or loader.together
        if self._config["peft_learning_rate"] is None:
            set_peft_learning_rate(self.optimizer, peft_learning_rate(self._config["learning_rate"], together))
        for batches in loader.windows(together):
            yield len(batches), self.train_window(batches)
        self.optimizer.zero_grad()  # that of a large table is not to be in memory while everything is ranked

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
            Sum of the losses, without gradient; this process's part of it.

        Raises
        ------
        TrainingError
            If they do not fit into memory.
        """
        total = torch.zeros((), device=self._device)
        items = _items_of(batches)
        with self._window(items, batches[0].group, self._portion(batches)) as backward_through_encoder:
            for batch in batches:
                self.optimizer.zero_grad()
                total += self._backward(batch)
                if batch is batches[-1]:
                    backward_through_encoder()
                self._step()
        return total

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the model hold the average of its weights for a while, if there is one."""
        if self.average is None:
            yield
            return
        drop = self._model.forget if self._share == 1 else self._model.invalidate
        try:
            with self.average.in_use():
                drop()
                yield
        finally:
            drop()

    def state(self) -> dict:
        """What a checkpoint holds of them."""
        average = self.average.state() if self.average else None
        return {"optimizer": self.optimizer.state_dict(), "average": average}

    def load(self, state: dict) -> None:
        """Go on from a :meth:`state`, at the learning rates of now, whatever its own were.

        Raises
        ------
        ValueError
            If it is of another optimiser.
        """
        if self.average and state["average"]:
            self.average.load(state["average"])
        rates = [group["lr"] for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        set_learning_rates(self.optimizer, rates)

    def _backward(self, batch: UserBatch) -> torch.Tensor:
        """Add the gradient of a batch's loss, or of this process's part of it; gives the loss, without gradient.

        Where every process has all users, for their loss is no mean of its rows', all compute it, with the same draws.
        """
        apart = nullcontext() if batch.part is None else self._apart()
        with apart, torch.autocast(self._device.type, enabled=self._config["enable_amp"]):
            loss = self._model.calculate_loss(batch.to(self._device))
        if processes.count() > 1:
            loss = loss * (batch.part or 1 / processes.count())
        loss.backward()
        return loss.detach().sum()  # some backbones give it as [1]

    def _apart(self) -> AbstractContextManager[None]:
        """For a while, draw what no other process draws."""
        return nullcontext() if self._draws is None else self._draws.in_use()

    def _step(self) -> None:
        groups = self.optimizer.param_groups
        processes.sum_gradients([parameter for group in groups for parameter in group["params"]])
        if clip_grad_norm := self._config["clip_grad_norm"]:
            clip_grad_norm_(self._model.parameters(), **clip_grad_norm)
        if self.average:
            self.average.before_step()
        self.optimizer.step()
        self._model.invalidate()
        if self.average:
            self.average.update()

    def _portion(self, batches: list[UserBatch]) -> int | None:
        """Items whose way through the encoder is in memory at a time; None: all of the window's.

        Where nobody says how many batches are encoded together, memory does not grow with their number.
        """
        portion = self._config["encoding_batch_size"]
        if portion is None and self._config["batches_per_encoding"] is None and len(batches) > FEWEST:
            portion = len(_items_of(batches[:FEWEST]))
        return portion

    @contextmanager
    def _window(self, items: torch.Tensor, group: int, portion: int | None) -> Iterator[Callable[[], None]]:
        """The item tower's window of ``items``; what is done in it may run out of memory, which names the settings."""
        encoded = None if self._share == 1 else self._sample(items)  # the same in every process
        try:
            with ExitStack() as window:
                with self._apart():  # items are encoded now
                    encoding = self._model.item_tower.window(items, group, portion, encoded)
                    backward_through_encoder = window.enter_context(encoding)
                yield backward_through_encoder
        except RuntimeError as error:
            # a CPU has no class of its own for it, and mostly kills the process instead
            if not (isinstance(error, torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error)):
                raise
            raise TrainingError(
                f"The {len(items)} items of a training step do not fit into memory. Set encoding_batch_size "
                f"(now {self._config['encoding_batch_size'] or '~'}) to fewer, or lower users_per_batch "
                f"({self._config['users_per_batch'] or '~'}), num_negatives, batches_per_encoding or peft_layers."
            ) from error

    def _sample(self, items: torch.Tensor) -> torch.Tensor:
        """The share of ``items [m]`` that is encoded, drawn at random, in their order."""
        drawn = torch.randperm(len(items), generator=self._sampler)[: max(1, round(self._share * len(items)))]
        return items[drawn.sort().values]


def _items_of(batches: list[UserBatch]) -> torch.Tensor:
    """Their different items, sorted, ``[m]``."""
    return batches[0].items if len(batches) == 1 else torch.cat([batch.items for batch in batches]).unique()
