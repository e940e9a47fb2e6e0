"""Fixtures that tests of bundles share: checkpoints, and the bundles that are exported from them."""

import json
import shutil

import pytest
import torch

from recbole_perpeft.serving.bundle import write_bundle
from recbole_perpeft.trainer.stage import Stage
from tests.tiny_models import save_tiny_bert, save_tiny_vit
from tests.training import scatter_groups


@pytest.fixture
def checkpoint(prepare, tmp_path):
    """``checkpoint(**settings)`` gives a trainer, its loaders and the file of its model, which moved from its start."""

    def make(model="PerPEFTSASRec", without_modules=False, **settings):
        _, trainer, *loaders = prepare(model=model, **settings)
        if not model.startswith("PerPEFT"):
            trainer.fit(loaders[0], loaders[1], verbose=False, saved=True)
            return trainer, loaders, trainer.saved_model_file
        trained = trainer.model
        if without_modules:  # items are compared as the foundation model sees them
            trained.fix_likeness(loaders[0].purchases)
            trained.item_tower.content_term.by_modules.zero_()
        if trained.num_groups > 1:
            scatter_groups(trained, loaders[0], trained.num_groups)
        with torch.no_grad():
            if trained.item_tower.content_term is not None:
                trained.item_tower.content_term.weight.fill_(0.5)
                trained.item_tower.content_term.decay.fill_(0.8)
            if trained.purchase_term is not None:
                trained.purchase_term.weight.fill_(0.3)
                trained.purchase_term.damping.fill_(0.5)
            if hasattr(trained, "group_softness"):
                trained.group_softness.fill_(0.5)
                trained.group_losses.copy_(torch.rand(trained.group_losses.shape))
        trained.invalidate()
        trainer.begin_stage(Stage.PERSONALISED if trained.num_groups > 1 else Stage.GLOBAL)
        trainer.checkpoint.keep_best()
        trainer.best_valid_result = {"ndcg@10": 0.25}
        trainer._saved = True
        trainer._write(0)
        return trainer, loaders, trainer.saved_model_file

    return make


@pytest.fixture(scope="session")
def pair(tiny_root):
    """The settings of two encoders side by side."""
    save_tiny_vit(tiny_root / "tiny" / "vit")
    save_tiny_bert(tiny_root / "tiny" / "bert")
    return {"encoder": None, "image_encoder": "vit", "text_encoder": "bert"}


@pytest.fixture(scope="session")
def exports(tmp_path_factory):
    """Where the bundle is that :func:`exported` copies, and what it was made of."""
    return tmp_path_factory.mktemp("exports"), []


@pytest.fixture
def exported(checkpoint, exports, tmp_path):
    """A trainer, the file of its model (soft groups and a content term), and a bundle of it, to be damaged."""
    folder, made = exports
    if not made:
        trainer, _, file = checkpoint(soft_groups=True, content_term=True)
        write_bundle(file, folder / "bundle")
        made += [trainer, shutil.copy(file, folder)]
    return *made, shutil.copytree(folder / "bundle", tmp_path / "bundle")


@pytest.fixture
def bundle(exported):
    """The bundle alone."""
    return exported[-1]


def edit(folder, change):
    """Write a bundle's manifest anew after ``change`` of it."""
    file = folder / "bundle.json"
    facts = json.loads(file.read_text())
    change(facts)
    file.write_text(json.dumps(facts))
