from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp import InputError
from interp.toys.measures import feature_dimensionality, feature_norms, superposition
from interp.toys.polytopes import square_antiprism
from interp.weight_circuits.direction_measures import (
    cosines,
    dimensionality_of_rows,
    measure_directions,
    near_copies,
    nearest_directions,
    random_like,
)
from interp.weight_circuits.directions import Directions

Check = Callable[..., None]
shapes = st.tuples(st.integers(2, 40), st.integers(1, 12))


def _drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _uneven(n: int, d: int, seed: int = 0) -> Tensor:
    """Directions of very different norms, with a shared mean."""
    return _drawn(n, d, seed=seed) * torch.logspace(-2, 1, n, dtype=torch.float64)[:, None] + 0.3


@settings(max_examples=30, deadline=None)
@given(shapes, st.integers(0, 1000), st.integers(1, 50))
def test_as_the_measures_of_toys(
    assert_close: Check, shape: tuple[int, int], seed: int, chunk: int
) -> None:
    vectors = _uneven(*shape, seed=seed)
    vectors[seed % shape[0]] = 0.0
    found = measure_directions(vectors, chunk)
    assert_close(found.norms, feature_norms(vectors.mT), "norms")
    assert_close(found.dimensionality, feature_dimensionality(vectors.mT), "D")
    assert_close(found.superposition, superposition(vectors.mT), "superposition")
    assert float(found.dimensionality.sum()) <= int(torch.linalg.matrix_rank(vectors)) + 1e-10
    rows = torch.arange(shape[0])
    assert_close(dimensionality_of_rows(vectors, rows), found.dimensionality, "pair by pair")


def test_sums_by_plain_loops() -> None:
    vectors = _uneven(7, 4)
    found = measure_directions(vectors)
    W = vectors.numpy()
    squares = [w @ w for w in W]
    weights, weighted = 0.0, 0.0
    for i in range(7):
        for j in range(7):
            if i != j:
                weights += squares[i] * squares[j]
                weighted += (W[i] @ W[j]) ** 2  # cos² times both squared norms
    assert found.squared_norm == pytest.approx(sum(squares))
    assert found.squared_cosine == pytest.approx(weighted / weights)
    values = np.linalg.eigvalsh(W.T @ W)
    assert found.effective_dimensions == pytest.approx(values.sum() ** 2 / (values**2).sum())
    expected = sum(squares) ** 2 / sum(s**2 for s in squares)
    assert found.effective_directions == pytest.approx(expected)
    mean = W.mean(0)
    assert found.mean_share == pytest.approx(mean @ mean / np.mean(squares))
    assert np.allclose(found.moment.numpy(), W.T @ W)


def _polygon(k: int) -> Tensor:
    angles = torch.arange(k, dtype=torch.float64) * 2 * torch.pi / k
    return torch.stack([angles.cos(), angles.sin()], 1)


_TETRAHEDRON = torch.tensor(
    [[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64
)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [(_polygon(3), 2 / 3), (_polygon(5), 2 / 5), (_TETRAHEDRON, 3 / 4),
     (square_antiprism().mT, 3 / 8),
     (torch.tensor([[1.0], [-1.0]], dtype=torch.float64), 1 / 2)],
)  # fmt: skip
def test_polytopes(shape: Tensor, expected: float) -> None:
    """In a corner of a larger space, turned, beside directions in the other dimensions."""
    k, d = shape.shape
    vectors = torch.zeros(k + 3, d + 3, dtype=torch.float64)
    vectors[:k, :d] = shape * 7.0
    vectors[k:, d:] = torch.eye(3, dtype=torch.float64)
    turn = torch.linalg.qr(_drawn(d + 3, d + 3)).Q
    found = measure_directions(vectors @ turn)
    assert found.dimensionality[:k].numpy() == pytest.approx(expected, abs=1e-12)
    assert found.dimensionality[k:].numpy() == pytest.approx(1.0, abs=1e-12)
    assert float(found.dimensionality.sum()) == pytest.approx(d + 3, abs=1e-11)  # tight frames


def test_equal_directions_and_none() -> None:
    found = measure_directions(torch.tensor([[2.0, 0.0]] * 4))
    assert found.dimensionality.tolist() == [0.25] * 4
    assert (found.squared_cosine, found.effective_dimensions, found.mean_share) == (1, 1, 1)
    nothing = measure_directions(torch.zeros(3, 2))
    assert nothing.dimensionality.tolist() == [0.0] * 3
    assert (nothing.squared_cosine, nothing.effective_dimensions, nothing.mean_share) == (0, 0, 0)
    lone = measure_directions(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    assert (lone.squared_cosine, lone.effective_directions) == (0.0, 1.0)
    assert lone.dimensionality.tolist() == [1.0, 0.0]


def test_many_in_single_precision(assert_close: Check) -> None:
    """As many as a vocabulary, with a large shared mean."""
    vectors = _drawn(20_000, 32, dtype=torch.float32) + 1.0
    found = measure_directions(vectors)
    expected = measure_directions(vectors.double())
    assert_close(found.dimensionality, expected.dimensionality.float())
    assert found.squared_cosine == pytest.approx(expected.squared_cosine, rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(shapes, st.integers(0, 1000), st.integers(1, 9))
def test_cosines_are_those_of_all_pairs(
    assert_close: Check, shape: tuple[int, int], seed: int, chunk: int
) -> None:
    vectors = _uneven(*shape, seed=seed)
    n = len(vectors)
    rows = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[: max(1, n // 2)]
    unit = (vectors / vectors.norm(dim=1, keepdim=True)).numpy()
    dense = unit @ unit.T
    found = cosines(vectors, rows, 10, chunk)
    others = [np.delete(dense[i], i) for i in rows.tolist()]
    assert_close(found.nearest_cosine, torch.tensor([x.max() for x in others]).clamp(max=1))
    assert_close(found.opposite_cosine, torch.tensor([x.min() for x in others]).clamp(min=-1))
    for i, high, low in zip(
        rows.tolist(), found.nearest.tolist(), found.opposite.tolist(), strict=True
    ):
        assert i not in (high, low)
        assert dense[i, high] == pytest.approx(np.delete(dense[i], i).max())
        assert dense[i, low] == pytest.approx(np.delete(dense[i], i).min())
    assert found.counts.sum() == len(rows) * (n - 1)
    if shape[1] > 1:  # else all lie on an edge
        counts = np.histogram(np.concatenate(others).clip(-1, 1), found.edges.numpy())[0]
        assert np.array_equal(found.counts.numpy(), counts)
    k = 1 + seed % 5
    ids, values = nearest_directions(vectors, rows, k, chunk)
    expected = np.stack([np.sort(x)[::-1][:k] for x in others])
    assert_close(values, torch.from_numpy(expected.copy()).clamp(-1, 1))
    assert_close(torch.from_numpy(dense)[rows[:, None], ids].clamp(-1, 1), values)
    assert bool((ids != rows[:, None]).all())


def test_cosines_with_none_are_zero() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    found = cosines(vectors, torch.tensor([0, 1]))
    assert found.nearest_cosine.tolist() == [0.0, 0.0]


def test_near_copies() -> None:
    """Groups of three, two and one: one of each is left, and none more."""
    base = torch.eye(4, dtype=torch.float64)
    vectors = base[[0, 1, 0, 1, 0, 2, 3]] * torch.arange(1.0, 8.0).double()[:, None]
    vectors = vectors + 0.01 * _drawn(7, 4)
    left_out = near_copies(vectors, torch.arange(7), 0.99, chunk=2)
    assert [int((~left_out[group]).sum()) for group in ([0, 2, 4], [1, 3], [5], [6])] == [1] * 4
    through_one = near_copies(vectors, torch.tensor([2]), 0.99)
    assert through_one.nonzero().flatten().tolist() == [0, 4]  # not the row itself
    assert not bool(near_copies(-vectors[[0, 5]], torch.arange(2)).any())
    opposite = torch.stack([vectors[0], -vectors[0]])
    assert not bool(near_copies(opposite, torch.arange(2)).any())


def test_random_directions_have_the_same_norms(assert_close: Check) -> None:
    vectors = _uneven(50, 8)
    model = Directions("W_E", vectors - vectors.mean(1, keepdim=True), centred=True)
    drawn = random_like(model, torch.Generator().manual_seed(1))
    assert_close(drawn.vectors.norm(dim=1), model.vectors.norm(dim=1))
    assert_close(drawn.vectors.mean(1), torch.zeros(50).double())
    assert (drawn.centred, drawn.kind) == (True, "W_E")
    again = random_like(model, torch.Generator().manual_seed(1))
    assert torch.equal(again.vectors, drawn.vectors)
    less = random_like(model.without_mean(), torch.Generator().manual_seed(1))
    assert_close(less.vectors.mean(0), torch.zeros(8).double())


def test_random_directions_are_uniform() -> None:
    """Mean squared cosine 1 / width, within five standard errors of 200 draws."""
    vectors = _drawn(30, 6)
    for model in (
        Directions("W_E", vectors),
        Directions("W_E", vectors - vectors.mean(1, keepdim=True), centred=True),
    ):
        generator = torch.Generator().manual_seed(0)
        found = torch.tensor(
            [
                measure_directions(random_like(model, generator).vectors).squared_cosine
                for _ in range(200)
            ]
        )
        error = float(found.std() / 200**0.5)
        assert abs(float(found.mean()) - 1 / model.width) < 5 * error
        assert error < 0.02 / model.width


def test_random_heads_are_turned(assert_close: Check) -> None:
    """Each head's directions keep their norms and stay orthogonal."""
    scales = torch.linspace(0.0, 2.0, 12, dtype=torch.float64)
    frames = torch.linalg.qr(_drawn(3, 9, 4)).Q.mT.reshape(12, 9) * scales[:, None]
    model = Directions("OV", frames, layer=0, per_group=4)
    drawn = random_like(model, torch.Generator().manual_seed(0)).vectors.view(3, 4, 9)
    assert_close(drawn @ drawn.mT, torch.diag_embed(scales.square().view(3, 4)))
    assert not torch.allclose(drawn, frames.view(3, 4, 9))
    wide = Directions("OV", _drawn(5, 6), centred=True, layer=0, per_group=5)
    drawn = random_like(wide, torch.Generator().manual_seed(0)).vectors
    assert_close(drawn @ drawn.T, (drawn @ drawn.T).diagonal().diag(), "as many as dimensions")
    assert_close(drawn.mean(1), torch.zeros(5).double())


def test_bad_input() -> None:
    vectors = torch.eye(3)
    rows = torch.arange(3)
    with pytest.raises(InputError, match=r"in fp32 or fp64, at least one. Received shape \[0, 3\]"):
        measure_directions(vectors[:0])
    for dtype in (torch.int64, torch.float16):
        with pytest.raises(InputError, match=rf"\[3, 3\] of {dtype}"):
            measure_directions(vectors.to(dtype))
    for number in (torch.nan, torch.inf):
        spoilt = vectors.clone()
        spoilt[1, 2] = number
        for call in (
            measure_directions,
            lambda v: cosines(v, rows),
            lambda v: near_copies(v, rows),
        ):
            with pytest.raises(InputError, match="must be finite numbers"):
                call(spoilt)
    with pytest.raises(InputError, match="chunk must be a whole number of at least 1"):
        measure_directions(vectors, 0)
    with pytest.raises(InputError, match=r"at least two directions. Received 1"):
        cosines(vectors[:1], rows[:1])
    with pytest.raises(InputError, match=r"rows must lie in 0 … 2, at least one. Received \[3\]"):
        cosines(vectors, torch.tensor([3]))
    with pytest.raises(InputError, match="n_bins must be a whole number of at least 1"):
        cosines(vectors, rows, 0)
    with pytest.raises(InputError, match="k must be a whole number of at least 1"):
        nearest_directions(vectors, rows, 0)
    with pytest.raises(InputError, match=r"cosine must be above 0 and at most 1. Received 1.5"):
        near_copies(vectors, rows, 1.5)
