"""Losses by points against the exact loss, closed forms and random examples."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp.errors import InputError
from interp.toys import ReconstructionLoss, SparseFeatures, ToyModel
from interp.toys.exact_loss import exact_loss, feature_variance
from interp.toys.quadrature import Quadrature, expected_loss


def _models(n_features: int, d_hidden: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(6, d_hidden, n_features, generator=generator, dtype=torch.float64) * 0.7
    b = torch.randn(6, n_features, generator=generator, dtype=torch.float64) * 0.1
    return W, b


@pytest.mark.parametrize(("n_features", "d_hidden"), [(1, 1), (2, 1), (3, 2), (4, 2)])
def test_it_comes_to_the_exact_loss(n_features: int, d_hidden: int) -> None:
    W, b = _models(n_features, d_hidden, seed=n_features)
    density = torch.linspace(0.02, 0.3, n_features, dtype=torch.float64)
    importance = torch.linspace(1.0, 0.4, n_features, dtype=torch.float64)
    exact = exact_loss(W, b, density, importance)
    errors = []
    for points in (4, 128, 1024):
        q = Quadrature.of(n_features, points)
        found = expected_loss(W, b, q.weights(density), importance, q)
        errors.append(float(((found - exact) / exact).abs().max()))
    assert errors[1] < 2e-3 and errors[2] < 3e-4
    assert errors[2] < errors[0] / 10


@settings(max_examples=25, deadline=None)
@given(
    density=st.lists(st.floats(0, 1), min_size=1, max_size=5),
    points=st.sampled_from([1, 2, 16]),
)
def test_weights_are_those_of_the_sets(density: list[float], points: int) -> None:
    n = len(density)
    q = Quadrature.of(n, points)
    weights = q.weights(torch.tensor(density, dtype=torch.float64))
    assert float(weights.sum()) == pytest.approx(1.0, abs=1e-12)
    for members in product((False, True), repeat=n):
        rows = (q.present == torch.tensor(members)).all(-1)
        expected = math.prod(p if m else 1 - p for p, m in zip(density, members, strict=True))
        assert float(weights[rows].sum()) == pytest.approx(expected, abs=1e-12)
        k = sum(members)
        along = max(2, max(c for c in range(1, 65) if c == 1 or c**k <= points)) if k else 1
        assert int(rows.sum()) == along**k
    assert torch.equal(q.x > 0, q.present), "a feature that is present is not 0, others are"
    assert float(q.x.max()) < 1


def test_nothing_represented_costs_the_variance(assert_close: Callable[..., None]) -> None:
    """With the mean as the bias: a polynomial, which two nodes along each feature integrate."""
    density = torch.tensor([0.05, 0.3, 0.6, 0.9, 0.2], dtype=torch.float64)
    q = Quadrature.of(5, 1)
    W = torch.zeros(2, 5, dtype=torch.float64)
    found = expected_loss(W, density / 2, q.weights(density), torch.ones(5).double(), q)
    expected = feature_variance(density)
    assert isinstance(expected, Tensor)
    assert_close(found, expected.sum(), tolerance=1e-14)


def test_it_is_the_mean_over_examples() -> None:
    n, count = 5, 3
    models = ToyModel(count, n, 2, seeds=7, dtype=torch.float64)
    with torch.no_grad():
        models.b += 0.05
    density = torch.tensor([0.4, 0.1, 0.2, 0.3, 0.05], dtype=torch.float64)
    importance = torch.tensor([1.0, 0.8, 0.3, 2.0, 1.0], dtype=torch.float64)
    data = SparseFeatures.of(count, n, density, dtype=torch.float64)
    loss = ReconstructionLoss.of(count, n, importance, dtype=torch.float64)
    with torch.no_grad():
        batches = [data.batch(step, 4096) for step in range(24)]
        drawn = torch.stack([loss(models(batch.x), batch) for batch in batches])
    q = Quadrature.of(n, 512)
    found = expected_loss(models.W.detach(), models.b.detach(), q.weights(density), importance, q)
    error = drawn.std(0) / len(drawn) ** 0.5
    assert bool(((found / n - drawn.mean(0)).abs() <= 4 * error).all())


def test_gradients_are_those_of_the_formula(assert_close: Callable[..., None]) -> None:
    W, b = _models(3, 2, seed=0)
    W, b = W[0].requires_grad_(), b[0].requires_grad_()
    q = Quadrature.of(3, 8)
    weights = q.weights(torch.tensor([0.3, 0.5, 0.7], dtype=torch.float64))
    importance = torch.tensor([1.0, 0.5, 0.2], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda W, b: expected_loss(W, b, weights, importance, q), (W, b)
    )
    plain = 0.0
    for x, weight in zip(q.x, weights, strict=True):
        out = (W.detach().T @ (W.detach() @ x) + b.detach()).clamp(min=0)
        plain += float(weight * (importance * (x - out) ** 2).sum())
    assert_close(
        expected_loss(W, b, weights, importance, q), torch.tensor(plain, dtype=torch.float64)
    )


def test_what_makes_no_sense_is_refused() -> None:
    for arguments in ((0, 4), (13, 4), (2, 0)):
        with pytest.raises(InputError):
            Quadrature.of(*arguments)
    q = Quadrature.of(2, 4)
    for density in ([0.1, 1.1], [0.1, -0.1], [0.1, 0.1, 0.1]):
        with pytest.raises(InputError):
            q.weights(torch.tensor(density))
