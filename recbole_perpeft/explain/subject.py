"""What is explained: a trained model, its users and items, and the model of stage 1 where the checkpoint holds it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from recbole_perpeft.config.registry import is_perpeft
from recbole_perpeft.content import ItemContent
from recbole_perpeft.encoder import ItemEncoder
from recbole_perpeft.quick_start import load
from recbole_perpeft.serving.absent_encoder import AbsentItemEncoder
from recbole_perpeft.serving.catalogue import nearest
from recbole_perpeft.serving.opening import Opened, open_trained
from recbole_perpeft.serving.recommender import Recommender
from recbole_perpeft.trainer import checkpoint_file
from recbole_perpeft.utils.errors import RequestError


class Subject:
    """A trained model and what is known beside it; users are known as they were in the test.

    Parameters
    ----------
    opened
        The model, its data and its catalogue.
    stage_1
        The state of the best epoch of stage 1, if it is known.
    remarks
        Sentences that a reader should know.

    Attributes
    ----------
    recommender : Recommender
        Of the model.
    tokens : numpy.ndarray
        Item ids as the files have them, ``[n_items]``.
    titles : list of str or None
        The items' texts, ``[n_items]``.
    groups : list of int
        Groups of users; none where all are treated alike.
    groups_of_users : numpy.ndarray or None
        Group of every user id, ``[n_users]``, -1 for those who did not train; None without groups.
    sequences : dict
        User id to training purchases, oldest first.
    """

    def __init__(
        self,
        opened: Opened,
        stage_1: dict[str, torch.Tensor] | None = None,
        remarks: Sequence[str] = (),
    ):
        self.config, self.model, self.parts = opened.config, opened.model, opened.parts
        self._stage_1, self.remarks = stage_1, list(remarks)
        model = self.model
        grouped = self.has_tower and model.is_grouped
        self.groups = list(range(model.num_groups)) if grouped else []
        self.groups_of_users = model.user_groups.cpu().numpy().copy() if grouped else None
        self.recommender = Recommender(opened, before_test=True)
        self.tokens = opened.catalogue.tokens
        self.titles = opened.catalogue.texts(self.config["text_fields"] or ["title"], self.config["text_template"])
        self.sequences = self.parts[0].training_sequences()

    # -- the model --------------------------------------------------------------------------------------------------

    @property
    def has_tower(self) -> bool:
        """Whether items are seen by their content."""
        return is_perpeft(type(self.model))

    @property
    def views(self) -> list[int]:
        """Groups by whose eyes items can be seen: at least one of a model that reads content."""
        return self.groups or ([0] if self.has_tower else [])

    @property
    def encoder(self) -> ItemEncoder | None:
        """What reads pictures and texts."""
        return self.model.item_tower.encoder if self.has_tower else None

    @property
    def content(self) -> ItemContent | None:
        """Pictures and texts as the encoder is given them."""
        encoder = self.encoder or getattr(self.model, "encoder", None)  # content neighbours have one and no tower
        return getattr(encoder, "content", None)

    @property
    def is_bundle(self) -> bool:
        """Whether all that is known of the items are numbers: no encoder, no picture, nothing of stage 1."""
        return isinstance(self.encoder, AbsentItemEncoder)

    @property
    def has_stage_1(self) -> bool:
        """Whether :meth:`stage_1_in_use` is possible."""
        return self._stage_1 is not None

    @contextmanager
    def stage_1_in_use(self) -> Iterator[None]:
        """Let the model be that of stage 1, one module for all users, for a while."""
        own = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self._stage_1)
        try:
            yield
        finally:
            self.model.load_state_dict(own)

    # -- users and items --------------------------------------------------------------------------------------------

    def name_of_user(self, user: int) -> str:
        """Their id as the files have it."""
        return str(self.parts[0].field2id_token[self.parts[0].uid_field][user])

    def user_called(self, name: str) -> int:
        """The number of a user who has a purchase in the test.

        Raises
        ------
        RequestError
            If nothing is known of them.
        """
        if name not in self.recommender.users:
            raise RequestError(
                f"Unknown user {name!r}: {len(self.recommender.users):,} users have a purchase in the test."
                f"{nearest(name, self.recommender.users)}"
            )
        return int(self.parts[0].token2id(self.parts[0].uid_field, name))

    def history(self, user: int) -> np.ndarray:
        """What they bought before the test, oldest first, ``[n]``."""
        return self.recommender.catalogue.numbers(self.recommender.history(self.name_of_user(user)))

    def held_out(self, user: int) -> list[int]:
        """What they bought in the test."""
        rows = self.parts[-1].inter_feat
        users, items = (rows[field].numpy() for field in (self.parts[0].uid_field, self.parts[0].iid_field))
        return items[users == user].tolist()

    def scores(self, user: int) -> torch.Tensor:
        """Scores of every item as in the test, ``[n_items]``: what is masked there is minus infinity."""
        scores = self.recommender.scores([self.name_of_user(user)])[0].cpu().clone()
        scores[0] = -torch.inf
        if self.config["mask_history"]:
            seen = torch.from_numpy(np.setdiff1d(self.history(user), self.held_out(user)))
            scores[seen] = -torch.inf
        return scores


def open_subject(checkpoint: str | Path, settings: dict | None = None) -> Subject:
    """Open what a run has written.

    Parameters
    ----------
    checkpoint
        Or a bundle's folder. Of one of RecBole's own models it is a pickle, which can run any code when it is read.
    settings
        Those that have changed since, such as a moved ``data_path``.

    Raises
    ------
    BundleError, CheckpointError
        As :meth:`~recbole_perpeft.serving.recommender.Recommender.load`.
    """
    if Path(checkpoint).is_dir():
        return Subject(open_trained(checkpoint, settings, new_data=False))
    config, trainer, *loaders = load(checkpoint, settings)
    trainer.tensorboard.close()
    opened = Opened.of(config, trainer.model, [loader._dataset for loader in loaders])
    if not is_perpeft(config.model_class):
        return Subject(opened)
    if trainer.part != "stage 3":
        return Subject(opened)
    state = checkpoint_file.read(checkpoint, config["device"])
    if not trainer.keeps_stage_1:
        return Subject(opened, state.get("stage_1_state_dict"))
    remark = (
        f"No epoch of stage 3 beat stage 1 in validation: the model recommends by stage 1's one module for all. What "
        f"is shown of groups is as they stood after the last epoch ({state['epoch']})."
    )
    stage_1 = state["state_dict"]  # of which every group has a copy
    trainer.checkpoint.load(state["last_state_dict"], checkpoint)
    return Subject(opened, stage_1, [remark])
