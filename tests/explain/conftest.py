"""A tiny model whose groups went ways of their own, with what stage 1 ended with."""

import pytest

from recbole_perpeft.explain.subject import Subject
from recbole_perpeft.serving.opening import Opened
from tests.training import move_modules, scatter_groups


@pytest.fixture
def subject(prepare):
    """``subject(**settings)`` gives a Subject, whose stage 1 moved the global module."""

    def make(**settings):
        _, trainer, *loaders = prepare(**settings)
        model = trainer.model
        move_modules(model, 1, seed=3)
        stage_1 = {name: value.clone() for name, value in model.state_dict().items()}
        scatter_groups(model, loaders[0])
        return Subject(Opened.of(trainer.config, model, [loader._dataset for loader in loaders]), stage_1)

    return make
