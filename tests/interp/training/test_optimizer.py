import pytest
import torch
from torch import nn

from interp import InputError
from interp.training import TrainSettings, make_optimizer


def test_matrices_decay_and_biases_of_any_shape_do_not():
    model = nn.Module()
    for name, shape in {"W": (2, 3), "b_Q": (2, 3), "w": (3,), "frozen": (2, 2)}.items():
        model.register_parameter(name, nn.Parameter(torch.ones(shape)))
    model.frozen.requires_grad_(False)
    optimizer = make_optimizer(model, TrainSettings(steps=1, lr=0.5, weight_decay=0.1))
    decays = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert decays == {id(model.W): 0.1, id(model.b_Q): 0.0, id(model.w): 0.0}
    with pytest.raises(InputError, match="must have parameters that require gradients"):
        make_optimizer(nn.Identity(), TrainSettings(steps=1))
