"""The exact allocation of capacity, against weights that know nothing of capacities."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp.errors import InputError
from interp.toys.allocation import loss_at_capacity, marginal_loss, optimal_allocation
from interp.toys.measures import capacity
from interp.toys.quadratic import quadratic_losses


def _v(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _descended(v: Tensor, kurtosis: float, d_hidden: int, starts: int = 6) -> tuple[Tensor, Tensor]:
    """The best weights of several descents on the exact loss, and that loss."""
    drawn = torch.Generator().manual_seed(0)
    W = 0.5 * torch.randn(starts, d_hidden, len(v), generator=drawn, dtype=torch.float64)
    W.requires_grad_()
    search = torch.optim.LBFGS(
        [W], max_iter=600, line_search_fn="strong_wolfe", tolerance_grad=1e-9, tolerance_change=0
    )

    def closure() -> Tensor:
        search.zero_grad()
        total = quadratic_losses(W, v, kurtosis).sum()
        total.backward()
        return total

    search.step(closure)
    losses = quadratic_losses(W.detach(), v, kurtosis).sum(-1)
    return W.detach()[losses.argmin()], losses.min()


@pytest.mark.parametrize("kurtosis", [1.8, 2.6, 3.6, 6.0, 18.0])
@pytest.mark.parametrize(("n", "d_hidden", "ratio"), [(2, 1, 0.6), (6, 3, 0.8)])
def test_no_descent_finds_better_weights_and_one_finds_these(
    n: int, d_hidden: int, ratio: float, kurtosis: float
) -> None:
    v = ratio ** torch.arange(n, dtype=torch.float64)
    found = optimal_allocation(v, kurtosis, d_hidden)
    W, loss = _descended(v, kurtosis, d_hidden)
    assert float((loss - found.loss).abs()) < 1e-8
    assert float((capacity(W) - found.capacity).abs().max()) < 1e-4


def test_weights_at_the_optimum_have_one_level_and_the_rest_keep_to_their_side_of_it() -> None:
    v, kurtosis = 0.75 ** torch.arange(8, dtype=torch.float64), 12.0
    W, _ = _descended(v, kurtosis, 3)
    held = capacity(W)
    level = W.square().sum(0) / held  # s / C, from the weights alone
    shared = (held > 1e-3) & (held < 1 - 1e-3)
    found = optimal_allocation(v, kurtosis, 3)
    count = int(shared.sum())
    assert count == int(((found.capacity > 0) & (found.capacity < 1)).sum()) > 3
    torch.testing.assert_close(level[shared], found.level.expand(count), rtol=1e-4, atol=0)
    # The polysemantic features are one tight frame.
    block = W[:, shared]
    spectrum = torch.linalg.svdvals(block).square()
    whole = int((held > 1 - 1e-3).sum())
    torch.testing.assert_close(
        spectrum[: 3 - whole], found.level.expand(3 - whole), rtol=1e-4, atol=0
    )
    marginal = -marginal_loss(found.capacity, v, kurtosis)
    price = 2 * float(found.level) ** 2
    assert bool((marginal[found.capacity == 1] >= price - 1e-12).all())
    assert bool((marginal[found.capacity == 0] <= price + 1e-12).all())


def test_moving_capacity_between_polysemantic_features_gains_nothing() -> None:
    v, kurtosis, step = 0.75 ** torch.arange(8, dtype=torch.float64), 12.0, 1e-5
    best = optimal_allocation(v, kurtosis, 3)
    shared = ((best.capacity > 0) & (best.capacity < 1)).nonzero().flatten().tolist()
    assert len(shared) >= 4
    for giver, taker in itertools.pairwise(shared):
        moved = best.capacity.clone()
        moved[giver] -= step
        moved[taker] += step
        change = float(loss_at_capacity(moved, v, kurtosis).sum() - best.loss)
        assert 0 <= change < 100 * step**2


@settings(max_examples=30, deadline=None)
@given(
    held=st.floats(0.05, 1.0),
    v=st.floats(0.1, 2.0),
    kurtosis=st.floats(1.2, 40.0),
)
def test_loss_at_a_capacity_is_the_least_over_norms(held: float, v: float, kurtosis: float) -> None:
    s = torch.linspace(0, v, 20_001, dtype=torch.float64)
    losses = (kurtosis - 1) * (s - v) ** 2 + 2 * s**2 * (1 - held) / held
    found = float(loss_at_capacity(_v(held), _v(v), kurtosis))
    curvature = 2 * (kurtosis - 1) + 4 * (1 - held) / held
    slack = curvature * (v / 20_000) ** 2
    assert -1e-10 <= float(losses.min()) - found <= slack + 1e-10


@settings(max_examples=30, deadline=None)
@given(held=st.floats(0.0, 1.0), v=st.floats(0.0, 2.0), kurtosis=st.floats(1.2, 40.0))
def test_marginal_loss_is_the_derivative(held: float, v: float, kurtosis: float) -> None:
    at = _v(held).requires_grad_()
    (slope,) = torch.autograd.grad(loss_at_capacity(at, _v(v), kurtosis).sum(), at)
    expected = marginal_loss(_v(held), _v(v), kurtosis)
    assert float((slope - expected).abs()) <= 1e-10 * max(1.0, float(expected.abs()))


@settings(max_examples=40, deadline=None)
@given(
    v=st.lists(st.one_of(st.just(0.0), st.just(1.0), st.floats(0.05, 2.0)), min_size=1, max_size=7),
    d_hidden=st.integers(1, 5),
    kurtosis=st.floats(3.2, 60.0),
)
def test_capacities_are_those_of_a_search_for_the_level(
    v: list[float], d_hidden: int, kurtosis: float
) -> None:
    found = optimal_allocation(_v(*v), kurtosis, d_hidden)

    def at(level: float) -> list[float]:
        return [
            min(1.0, max(0.0, ((kurtosis - 1) * one / level - 2) / (kurtosis - 3))) for one in v
        ]

    if sum(one > 0 for one in v) <= d_hidden:
        expected = [float(one > 0) for one in v]
        assert float(found.level) == 0
    else:
        low, high = 1e-9, 100.0
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if sum(at(middle)) > d_hidden else (low, middle)
        expected = at(low)
        assert float(found.capacity.sum()) == pytest.approx(d_hidden, abs=1e-9)
    assert float((found.capacity - _v(*expected)).abs().max()) < 1e-6
    losses = loss_at_capacity(_v(*expected), _v(*v), kurtosis)
    assert float(found.loss) == pytest.approx(float(losses.sum()), abs=1e-6)


def test_by_hand() -> None:
    """Two equal features in one dimension, κ = 6: half each, λ = 10 / 7, loss 20 / 7."""
    found = optimal_allocation(_v(1, 1), 6.0, 1)
    torch.testing.assert_close(found.capacity, _v(0.5, 0.5))
    assert float(found.level) == pytest.approx(10 / 7)
    assert float(found.loss) == pytest.approx(20 / 7)
    dense = optimal_allocation(_v(0.5, 1, 0.7, 1), 2.0, 3)
    assert dense.capacity.tolist() == [0, 1, 1, 1]
    assert bool(dense.level.isnan())
    assert float(dense.loss) == pytest.approx(0.25)
    normal = optimal_allocation(_v(1, 1, 1), 3.0, 2)
    assert normal.capacity.tolist() == [1, 1, 0], "of equal ones the first"


@pytest.mark.parametrize("excess", [-1e-12, 1e-15, 1e-12, 1e-8, 1e-4])
def test_beside_a_normal_feature_s_kurtosis_nothing_is_lost(excess: float) -> None:
    v = 0.8 ** torch.arange(6, dtype=torch.float64)
    found = optimal_allocation(v, 3.0 + excess, 2)
    assert float(found.capacity.sum()) == pytest.approx(2, abs=1e-6)
    # Of a line: what is left out costs (κ - 1) v².
    assert float(found.loss) == pytest.approx(2 * float(v[2:].square().sum()), abs=1e-3)


def test_many_at_once_are_each_alone() -> None:
    v = torch.rand(4, 1, 6, dtype=torch.float64)
    kurtosis = _v(1.5, 3.0, 4.0, 20.0, 90.0)
    found = optimal_allocation(v, kurtosis, 2)
    assert found.capacity.shape == (4, 5, 6)
    assert found.loss.shape == found.level.shape == (4, 5)
    for i in range(4):
        for j in range(5):
            alone = optimal_allocation(v[i, 0], float(kurtosis[j]), 2)
            torch.testing.assert_close(found.capacity[i, j], alone.capacity, rtol=0, atol=1e-12)
            torch.testing.assert_close(
                found.level[i, j], alone.level, rtol=0, atol=1e-12, equal_nan=True
            )


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match=r"kurtosis must be above 1, and finite. Received 1"):
        optimal_allocation(_v(1, 1), 1.0, 1)
    with pytest.raises(InputError, match=r"must not be negative, and finite. Received -1"):
        optimal_allocation(_v(1, -1), 6.0, 1)
    with pytest.raises(InputError, match=r"0 … 1. Received 0.5 … 1.5"):
        loss_at_capacity(_v(0.5, 1.5), _v(1, 1), 6.0)
    with pytest.raises(InputError, match="d_hidden"):
        optimal_allocation(_v(1, 1), 6.0, 0)
    with pytest.raises(InputError, match=r"finite. Received 1.0 … inf"):
        optimal_allocation(_v(1, float("inf")), 6.0, 1)
    with pytest.raises(InputError, match=r"finite. Received inf"):
        optimal_allocation(_v(1, 1), float("inf"), 1)
    with pytest.raises(InputError, match=r"Received shapes \[0\]"):
        optimal_allocation(_v(), 6.0, 1)
    with pytest.raises(InputError, match=r"Received shapes \[2\] of torch.float64 and \[3\]"):
        marginal_loss(_v(0, 1, 0), _v(1, 1), 6.0)
    with pytest.raises(InputError, match=r"of torch.int64"):  # which would round the kurtosis
        loss_at_capacity(_v(0.5), torch.tensor([1]), 4.5)
