"""Exact losses against hand-made integrals, dense sums and drawn examples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp.errors import InputError
from interp.toys.exact_loss import exact_loss, feature_variance

fp64 = torch.float64


@pytest.mark.parametrize("p", [0.05, 0.5, 1.0])
def test_by_hand(p: float, assert_close: Callable[..., None]) -> None:
    zeros = torch.zeros(2, dtype=fp64)

    def loss(W: list[list[float]], b: list[float], importance: list[float]) -> Tensor:
        return exact_loss(
            *(torch.tensor(x, dtype=fp64) for x in (W, b)), p, torch.tensor(importance)
        )

    # Alone in its dimension a feature costs nothing; without one and at its mean, its variance.
    assert_close(
        loss([[1, 0]], [0, p / 2], [1, 3]), torch.tensor(3 * (p / 3 - p**2 / 4), dtype=fp64)
    )
    assert feature_variance(p) == p / 3 - p**2 / 4
    # Without anything, the mean square p/3 of each.
    assert_close(loss([[0, 0]], [0, 0], [1, 1]), torch.tensor(2 * p / 3, dtype=fp64))
    # A digon without bias: only both at once cost, the smaller one squared: E min(u, v)² = 1/6.
    both = torch.tensor(p**2 * (1 + 3) / 6, dtype=fp64)
    assert_close(loss([[1, -1]], [0, 0], [1, 3]), both)
    # Two features that share a direction: both outputs are x_1 + x_2, wrong by the other one.
    assert_close(loss([[1, 1]], [0, 0], [1, 3]), torch.tensor(4 * p / 3, dtype=fp64))
    # A bias that holds everything down, and one so high that nothing is cut: (b + 0)² for x = 0 …
    assert_close(loss([[1, 1]], [-2, -2], [1, 1]), torch.tensor(2 * p / 3, dtype=fp64))
    raised = exact_loss(torch.tensor([[1.0, 0.0]], dtype=fp64), zeros + 2, p)
    assert_close(raised, torch.tensor(4 + (4 - 2 * p + p / 3), dtype=fp64))


def _by_sums(W: Tensor, b: Tensor, p: Tensor, importance: Tensor, n: int = 400) -> float:
    """Midpoints of a fine grid for each set of present features: right to about 1e-5."""
    features = W.shape[1]
    total, gram = 0.0, (W.T @ W).numpy()
    middle = (np.arange(n) + 0.5) / n
    for present in range(2**features):
        active = [i for i in range(features) if present >> i & 1]
        probability = 1.0
        for i in range(features):
            probability *= float(p[i]) if i in active else 1 - float(p[i])
        mesh = np.meshgrid(*[middle] * len(active), indexing="ij")
        x = np.zeros((features, *([n] * len(active))))
        for i, values in zip(active, mesh, strict=True):
            x[i] = values
        output = np.tensordot(gram, x, 1) + b.numpy().reshape(-1, *([1] * len(active)))
        error = ((x - output.clip(0)) ** 2).mean(axis=tuple(range(1, 1 + len(active))))
        total += probability * float(error @ importance.numpy())
    return total


@settings(max_examples=25, deadline=None)
@given(
    features=st.integers(1, 3),
    d_hidden=st.integers(1, 3),
    seed=st.integers(0, 999),
    zeros=st.booleans(),
)
def test_against_sums_over_a_grid(features: int, d_hidden: int, seed: int, zeros: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(d_hidden, features, dtype=fp64, generator=generator)
    b = torch.randn(features, dtype=fp64, generator=generator) * 0.4
    if zeros:  # outputs without a slope, kinks in a corner
        W[:, 0], b = 0.0, b * 0
    p, importance = torch.rand(2, features, dtype=fp64, generator=generator)
    n = {1: 2000, 2: 400, 3: 60}[features]
    found, expected = float(exact_loss(W, b, p, importance)), _by_sums(W, b, p, importance, n)
    assert abs(found - expected) <= 4 / n**2 * (1 + float((W.T @ W).square().sum()))


def test_against_drawn_examples() -> None:
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(6, 2, 4, dtype=fp64, generator=generator) * 0.7
    b = torch.randn(6, 4, dtype=fp64, generator=generator) * 0.2
    p = torch.tensor([0.05, 0.1, 0.3, 0.5, 0.8, 1.0], dtype=fp64)[:, None]
    importance = torch.rand(6, 4, dtype=fp64, generator=generator)
    found = exact_loss(W, b, p, importance)
    n = 100_000
    x = torch.rand(6, n, 4, dtype=fp64, generator=generator)
    x = x * (torch.rand(6, n, 4, dtype=fp64, generator=generator) < p[:, None])
    output = (x @ (W.mT @ W) + b[:, None]).relu()
    losses = ((x - output).square() * importance[:, None]).sum(-1)
    error = (found - losses.mean(1)) / (losses.std(1) / n**0.5)
    assert float(error.abs().max()) < 3.5


def test_axes_broadcast(assert_close: Callable[..., None]) -> None:
    generator = torch.Generator().manual_seed(1)
    W = torch.randn(3, 1, 2, 3, dtype=fp64, generator=generator)
    b = torch.randn(4, 3, dtype=fp64, generator=generator)
    p = torch.rand(4, 1, dtype=fp64, generator=generator)
    importance = torch.rand(3, 1, 3, dtype=fp64, generator=generator)
    found = exact_loss(W, b, p, importance)
    assert found.shape == (3, 4)
    for i in range(3):
        for j in range(4):
            assert_close(found[i, j], exact_loss(W[i, 0], b[j], p[j], importance[i, 0]))


def test_gradients() -> None:
    generator = torch.Generator().manual_seed(2)
    W = torch.randn(4, 2, 3, dtype=fp64, generator=generator, requires_grad=True)
    b = (torch.randn(4, 3, dtype=fp64, generator=generator) * 0.3).requires_grad_()
    assert torch.autograd.gradcheck(lambda W, b: exact_loss(W, b, 0.4), (W, b))


@pytest.mark.parametrize(
    ("W", "b", "density", "rule"),
    [
        (torch.ones(2, 3), torch.ones(2), 0.5, "W must be"),
        (torch.ones(2, 5), torch.ones(5), 0.5, "at most 4 features"),
        (torch.ones(1, 2), torch.ones(2), 1.5, "density must lie"),
        (torch.ones(1, 2), torch.ones(2), -0.5, "density must be"),
        (torch.ones(1, 2), torch.ones(2), torch.ones(3), "density must be a number or end"),
    ],
)
def test_bad_input(W: Tensor, b: Tensor, density: float | Tensor, rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        exact_loss(W, b, density)
