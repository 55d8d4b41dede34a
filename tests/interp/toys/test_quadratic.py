"""The quadratic toy: output, moments of its data and exact loss, against loops and samples."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp.errors import InputError
from interp.toys import ReconstructionLoss, SparseFeatures, ToySettings, train
from interp.toys.allocation import optimal_allocation
from interp.toys.quadratic import QuadraticTask, QuadraticToy, kurtosis_of, quadratic_losses


def _task(n_instances: int, n_features: int, density: float = 0.3, **more: object) -> QuadraticTask:
    source = SparseFeatures.of(
        n_instances, n_features, density, values="signed", dtype=torch.float64, **more
    )
    v = torch.linspace(1.0, 0.2, n_features, dtype=torch.float64)
    return QuadraticTask.of(source, v)


def test_output_is_a_sum_of_squares() -> None:
    models = QuadraticToy(2, 4, 3, seeds=5, dtype=torch.float64)
    with torch.no_grad():
        models.b += torch.tensor([[0.5], [-2.0]])
    x = torch.randn(2, 6, 4, dtype=torch.float64)
    with torch.no_grad():
        found = models(x)
    assert found.shape == (2, 6, 1)
    for i, example in itertools.product(range(2), range(6)):
        hidden = [
            sum(float(models.W.data[i, d, j]) * float(x[i, example, j]) for j in range(4))
            for d in range(3)
        ]
        expected = sum(h * h for h in hidden) + float(models.b.data[i])
        assert float(found[i, example]) == pytest.approx(expected, abs=1e-12)


def test_weights_depend_on_the_seed_alone() -> None:
    many = QuadraticToy(40, 30, 20, seeds=3)
    alone = QuadraticToy(1, 30, 20, seeds=7)
    torch.testing.assert_close(many.W[4:5], alone.W, rtol=0, atol=0)
    assert float(many.W.detach().std()) == pytest.approx(math.sqrt(2 / 50), rel=0.02)
    part = many.select(torch.tensor([4, 1]))
    assert part.n_instances == 2
    torch.testing.assert_close(part.W[0], alone.W[0], rtol=0, atol=0)
    with torch.no_grad():
        part.W.zero_()
    assert bool(many.W.any()), "a selection is a copy"


def test_target_and_moments_of_the_data() -> None:
    data = _task(2, 3, 0.25)
    batch = data.batch(0, 200_000)
    v = data.coefficients[1].tolist()
    for example in range(5):
        x = batch.x[1, example].tolist()
        expected = sum(c * one * one for c, one in zip(v, x, strict=True))
        assert float(batch.target[1, example, 0]) == pytest.approx(expected, abs=1e-12)
    # Standard errors: of x below 0.0016, of x² below 0.006, of x⁴ about 0.08 (bounds of four).
    assert float(batch.x.mean((0, 1)).abs().max()) < 0.0064
    assert float((batch.x.square().mean((0, 1)) - 1).abs().max()) < 0.024
    fourth = batch.x.pow(4).mean((0, 1))
    assert float((fourth - kurtosis_of(0.25)).abs().max()) < 0.32


def test_selected_data_are_those_of_the_instances() -> None:
    data = _task(4, 3, density=torch.tensor([[0.1], [0.3], [0.5], [0.7]]))
    part = data.select(torch.tensor([3, 1]))
    assert (part.n_instances, part.n_features) == (2, 3)
    whole, some = data.batch(7, 16), part.batch(7, 16)
    torch.testing.assert_close(some.x, whole.x[[3, 1]], rtol=0, atol=0)
    torch.testing.assert_close(some.target, whole.target[[3, 1]], rtol=0, atol=0)
    assert {"coefficients", "density", "seeds", "values"} <= set(part.fields())


def test_kurtosis_by_hand_and_by_integration() -> None:
    assert float(kurtosis_of(1.0)) == pytest.approx(1.8)
    assert float(kurtosis_of(0.6)) == pytest.approx(3.0)
    x = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    for p in (0.02, 0.4):
        second, fourth = p * float(x.square().mean()), p * float(x.pow(4).mean())
        assert float(kurtosis_of(p)) == pytest.approx(fourth / second**2, rel=1e-9)


def _variance(W: Tensor, v: Tensor, kurtosis: float) -> float:
    """Of xᵀ(WᵀW - diag v) x, entry by entry."""
    n = W.shape[1]
    form = (W.T @ W - torch.diag(v)).tolist()

    def moment(*which: int) -> float:
        counts = sorted(which.count(k) for k in set(which))
        return {(4,): kurtosis, (2, 2): 1.0}.get(tuple(counts), 0.0)

    square = sum(
        form[i][j] * form[k][m] * moment(i, j, k, m)
        for i, j, k, m in itertools.product(range(n), repeat=4)
    )
    return square - sum(form[i][i] for i in range(n)) ** 2


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(1, 4),
    m=st.integers(1, 3),
    kurtosis=st.floats(1.1, 50.0),
    seed=st.integers(0, 1000),
)
def test_loss_is_the_variance_of_the_error(n: int, m: int, kurtosis: float, seed: int) -> None:
    drawn = torch.Generator().manual_seed(seed)
    W = torch.randn(m, n, generator=drawn, dtype=torch.float64)
    v = torch.rand(n, generator=drawn, dtype=torch.float64)
    expected = _variance(W, v, kurtosis)
    found = float(quadratic_losses(W, v, kurtosis).sum())
    assert abs(found - expected) <= 1e-10 * max(1.0, abs(expected))


def test_loss_of_each_of_many_models() -> None:
    W = torch.randn(5, 2, 4, dtype=torch.float64)
    v = torch.rand(5, 4, dtype=torch.float64)
    kurtosis = torch.tensor([1.5, 2.0, 3.0, 9.0, 40.0], dtype=torch.float64)
    found = quadratic_losses(W, v, kurtosis)
    assert found.shape == (5, 4)
    for i in range(5):
        alone = quadratic_losses(W[i], v[i], float(kurtosis[i]))
        torch.testing.assert_close(found[i], alone, rtol=0, atol=1e-12)


def test_loss_is_what_samples_say_with_the_best_bias() -> None:
    data, models = _task(1, 4, 0.4), QuadraticToy(1, 4, 2, seeds=1, dtype=torch.float64)
    batch = data.batch(3, 400_000)
    with torch.no_grad():
        W = models.W.data[0]
        models.b.fill_(float((data.coefficients[0] - W.square().sum(0)).sum()))
        errors = (models(batch.x) - batch.target).square().flatten()
    expected = float(quadratic_losses(W, data.coefficients[0], kurtosis_of(0.4)).sum())
    stderr = float(errors.std()) / math.sqrt(len(errors))
    assert stderr < 0.02 * expected
    assert abs(float(errors.mean()) - expected) < 4 * stderr


def test_training_in_one_stack_comes_near_the_least_loss() -> None:
    """The best of three seeds: one may still be on its way past a saddle."""
    densities = torch.tensor([0.3, 0.1], dtype=torch.float64).repeat(3)
    source = SparseFeatures.of(6, 4, densities[:, None], values="signed")
    v = torch.tensor([1.0, 0.8, 0.6, 0.4])
    models = QuadraticToy(6, 4, 2)
    losses = ReconstructionLoss.of(6, 1)
    chosen = ToySettings(steps=500, batch_size=128, lr=0.02, weight_decay=0.0, decay="cosine")
    train(models, QuadraticTask.of(source, v), losses, chosen)
    v = v.double().expand(6, -1)
    kurtosis = kurtosis_of(densities)
    found = quadratic_losses(models.W.detach().double(), v, kurtosis).sum(-1)
    ratio = found / optimal_allocation(v, kurtosis, 2).loss
    assert bool((ratio >= 1).all())
    assert bool((ratio.view(3, 2).min(0).values < 1.01).all()), ratio


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match=r"d_hidden .* Received 0"):
        QuadraticToy(1, 2, 0)
    with pytest.raises(InputError, match=r"signed features .* Received values 'uniform'"):
        QuadraticTask.of(SparseFeatures.of(1, 2, 0.5), 1.0)
    signed = SparseFeatures.of(1, 2, 0.5, values="signed")
    with pytest.raises(InputError, match=r"must not be negative. Received -1"):
        QuadraticTask.of(signed, -1.0)
    with pytest.raises(InputError, match=r"density must be above 0. Received 0"):
        QuadraticTask.of(SparseFeatures.of(1, 2, 0.0, values="signed"), 1.0)
    with pytest.raises(InputError, match="0 left out"):
        kurtosis_of(0.0)
    with pytest.raises(InputError, match=r"Received \[2, 3\] of torch.float32 and \[2\]"):
        quadratic_losses(torch.ones(2, 3), torch.ones(2), 3.0)
    with pytest.raises(InputError, match=r"of torch.int64"):  # which would round the kurtosis
        quadratic_losses(torch.ones(2, 3, dtype=torch.int64), torch.ones(3), 4.5)
