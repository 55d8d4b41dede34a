"""Modules of the user's, stacked: the outputs and gradients of each by itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from interp.errors import InputError
from interp.toys import ModuleToy, ReconstructionLoss, SparseFeatures, ToySettings, train


class Tied(nn.Module):
    """Two layers with one weight, a buffer, and a deeper name."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.inner = nn.ModuleDict({"layer": nn.Linear(4, 3, dtype=torch.float64)})
        self.again = self.inner["layer"]  # one module, two names
        self.other = nn.Linear(4, 3, bias=False, dtype=torch.float64)
        self.other.weight = self.again.weight  # one parameter, two modules
        self.register_buffer("scale", torch.tensor(1.0 + seed, dtype=torch.float64), False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.again(x) * self.scale) @ self.other.weight


def test_each_instance_is_the_module_itself() -> None:
    plain = [Tied(i) for i in range(3)]
    stacked = ModuleToy(Tied, 3)
    assert {name: len(p) for name, p in stacked.named_parameters()} == {
        "inner__layer__weight": 3,
        "inner__layer__bias": 3,
    }
    x = torch.randn(3, 5, 4, dtype=torch.float64)
    found = stacked(x)
    found.sum().backward()
    for i, module in enumerate(plain):
        expected = module(x[i])
        expected.sum().backward()
        assert float((found[i] - expected).abs().max()) < 1e-14
        gradient = stacked.get_parameter("inner__layer__weight").grad
        own = module.again.weight.grad
        assert gradient is not None and own is not None
        assert float((gradient[i] - own).abs().max()) < 1e-13
        out_again = stacked.module(i)
        assert isinstance(out_again, Tied)
        assert float((out_again(x[i]) - expected).abs().max()) < 1e-14
        assert (
            float((stacked.select(torch.tensor([i]))(x[i : i + 1])[0] - expected).abs().max())
            < 1e-14
        )


def test_training_stacked_modules_is_training_each() -> None:
    data = SparseFeatures.of(2, 4, 0.5, dtype=torch.float64)
    loss = ReconstructionLoss.of(2, 4, dtype=torch.float64)
    stacked = ModuleToy(Tied, 2)
    train(stacked, data, loss, ToySettings(steps=20, batch_size=16))
    for i in range(2):
        plain = Tied(i)
        optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-3, weight_decay=0.01)
        for step in range(20):
            x = data.batch(step, 16).x[i]
            optimizer.zero_grad()
            (plain(x) - x).square().mean().backward()
            optimizer.step()
        found = stacked.module(i).again.weight
        assert float((found - plain.again.weight).abs().max()) < 1e-10


def test_a_frozen_parameter_stays_frozen() -> None:
    def make(seed: int) -> Tied:
        module = Tied(seed)
        module.again.bias.requires_grad_(False)
        return module

    stacked = ModuleToy(make, 2)
    data = SparseFeatures.of(2, 4, 0.5, dtype=torch.float64)
    loss = ReconstructionLoss.of(2, 4, dtype=torch.float64)
    train(stacked, data, loss, ToySettings(steps=3, batch_size=16), chunk_size=1)
    for i in range(2):
        assert torch.equal(stacked.module(i).again.bias, make(i).again.bias)
        assert not torch.equal(stacked.module(i).again.weight, make(i).again.weight)


def test_a_module_is_given_back_in_the_dtype_of_the_stack() -> None:
    module = ModuleToy(Tied, 2).float().module(1)
    assert {value.dtype for value in module.state_dict().values()} == {torch.float32}
    assert module.scale.dtype == torch.float32


def test_modules_that_differ_are_refused() -> None:
    with pytest.raises(InputError, match="same names, shapes and dtypes"):
        ModuleToy(lambda i: nn.Linear(4, 3 + i), 2)
    with pytest.raises(InputError, match="without parameters"):
        ModuleToy(lambda i: nn.ReLU(), 2)
    with pytest.raises(InputError, match=r"0 … 1\. Received 2"):
        ModuleToy(Tied, 2).module(2)
