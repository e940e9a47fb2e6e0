"""CLIP's activation: the formula, its derivative, and where it is put."""

import torch
from torch import nn
from transformers.activations import QuickGELUActivation

from recbole_perpeft.encoder.activations import FusedQuickGELU, fuse_activations


def test_it_is_the_formula_of_transformers():
    x = torch.linspace(-9, 9, 301)
    torch.testing.assert_close(FusedQuickGELU()(x), QuickGELUActivation()(x))


def test_its_derivative_is_that_of_finite_differences():
    x = torch.linspace(-4, 4, 31, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(FusedQuickGELU(), x)


def test_every_such_activation_of_a_model_is_replaced_and_no_other():
    model = nn.Sequential(nn.Linear(3, 3), QuickGELUActivation(), nn.Sequential(QuickGELUActivation(), nn.GELU()))
    fuse_activations(model)
    kinds = [type(module) for module in model.modules() if not list(module.children())]
    assert kinds == [nn.Linear, FusedQuickGELU, FusedQuickGELU, nn.GELU]
