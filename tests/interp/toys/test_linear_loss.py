"""The closed form of a linear toy's loss against written-out moments, examples and its optimum."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp.errors import InputError
from interp.toys import ReconstructionLoss, SparseFeatures, ToyModel
from interp.toys.evaluation import held_out_losses
from interp.toys.exact_loss import feature_variance
from interp.toys.linear_loss import linear_loss
from interp.toys.theory import linear_minimum

fp64 = torch.float64


def _random(n_features: int, d_hidden: int, seed: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(d_hidden, n_features, generator=generator, dtype=fp64)
    b = torch.randn(n_features, generator=generator, dtype=fp64)
    density, importance = torch.rand(2, n_features, generator=generator, dtype=fp64)
    return W, b, density, importance


def _by_moments(
    W: torch.Tensor, b: torch.Tensor, density: torch.Tensor, importance: torch.Tensor
) -> float:
    """Σ_i I_i E (Σ_j a_j x_j - b_i)², every product of two features by itself."""
    n_features = W.shape[1]
    p = density.tolist()
    total = 0.0
    for i in range(n_features):
        a = [float(i == j) - float(W[:, i] @ W[:, j]) for j in range(n_features)]
        square = float(b[i]) ** 2
        for j in range(n_features):
            square -= 2 * float(b[i]) * a[j] * p[j] / 2
            for k in range(n_features):
                square += a[j] * a[k] * (p[j] / 3 if j == k else p[j] * p[k] / 4)
        total += float(importance[i]) * square
    return total


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 1000))
def test_is_the_sum_of_all_moments(
    assert_close: Callable[..., None], n_features: int, d_hidden: int, seed: int
) -> None:
    given_ = _random(n_features, d_hidden, seed)
    assert_close(linear_loss(*given_), torch.tensor(_by_moments(*given_), dtype=fp64))


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 1000))
def test_goes_down_to_the_linear_minimum_and_no_lower(
    assert_close: Callable[..., None], n_features: int, d_hidden: int, seed: int
) -> None:
    W, b, density, importance = _random(n_features, d_hidden, seed)
    least = linear_minimum(importance, torch.as_tensor(feature_variance(density)), d_hidden)
    assert float(linear_loss(W, b, density, importance)) >= float(least.loss) - 1e-12
    top = torch.zeros_like(W)
    for row, feature in enumerate(least.features.tolist()):
        top[row, feature] = 1.0
    bias = density / 2
    bias[least.features] = 0.0
    assert_close(linear_loss(top, bias, density, importance), least.loss)


def test_is_the_mean_over_examples_of_a_linear_toy() -> None:
    density = torch.tensor([[1.0], [0.2]], dtype=fp64)
    models = ToyModel(2, 4, 2, output="linear", dtype=fp64)
    with torch.no_grad():
        models.b.copy_(torch.linspace(-0.2, 0.3, 4, dtype=fp64).expand(2, 4))
    importance = torch.tensor([1.0, 0.5, 2.0, 0.1], dtype=fp64)
    data = SparseFeatures.of(2, 4, density, dtype=fp64)
    loss = ReconstructionLoss.of(2, 4, importance, dtype=fp64)
    found = held_out_losses(models, data, loss, batches=40)
    error = (found.mean(0) - linear_loss(models.W, models.b, density, importance) / 4).abs()
    assert bool((error <= 5 * found.std(0) / 40**0.5).all()), error


def test_axes_broadcast_and_bad_ones_are_refused(assert_close: Callable[..., None]) -> None:
    W, b, density, importance = _random(3, 2, 0)
    several = linear_loss(W, b, torch.tensor([[0.1], [0.7]], dtype=fp64), importance)
    alone = [linear_loss(W, b, p, importance) for p in (0.1, 0.7)]
    assert_close(several, torch.stack(alone))
    with pytest.raises(InputError, match="density must lie in 0 … 1"):
        linear_loss(W, b, 1.5)
    with pytest.raises(InputError, match="importance must be a number"):
        linear_loss(W, b, density, importance[:2])
    with pytest.raises(InputError, match=r"W must be \[\.\.\., d_hidden, feature\]"):
        linear_loss(W, b[:2], density)
