"""The measures against plain loops, polytopes known by hand, and identities."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp.errors import InputError
from interp.toys import measures
from interp.toys.measures import (
    capacity,
    dimensions_per_feature,
    example_dimensionality,
    feature_dimensionality,
    feature_norms,
    monosemanticity,
    superposition,
)


def _by_loops(W: Tensor) -> tuple[list[float], list[float], list[float]]:
    """Norm, superposition and dimensionality of one matrix's columns, one number at a time."""
    columns = [[float(x) for x in column] for column in W.T]
    norms, others, dimensionalities = [], [], []
    for i, column in enumerate(columns):
        norm = math.sqrt(sum(x * x for x in column))
        if norm == 0:
            norms.append(0.0), others.append(0.0), dimensionalities.append(0.0)
            continue
        squares = [
            sum(a / norm * b for a, b in zip(column, other, strict=True)) ** 2 for other in columns
        ]
        norms.append(norm)
        others.append(sum(square for j, square in enumerate(squares) if j != i))
        dimensionalities.append(norm**2 / sum(squares))
    return norms, others, dimensionalities


@settings(max_examples=40, deadline=None)
@given(
    lead=st.lists(st.integers(1, 3), max_size=2),
    d_hidden=st.integers(1, 6),
    feature=st.integers(1, 7),
    seed=st.integers(0, 99),
    scale=st.sampled_from([1.0, 1e-3, 40.0]),
)
def test_measures_are_their_formulas(
    assert_close: Callable[..., None],
    lead: list[int],
    d_hidden: int,
    feature: int,
    seed: int,
    scale: float,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(*lead, d_hidden, feature, dtype=torch.float64, generator=generator) * scale
    W[..., 0] *= float(seed % 3 != 0)  # a column of zeros now and then
    flat = W.reshape(-1, d_hidden, feature)
    rows = [_by_loops(one) for one in flat]
    found = (feature_norms(W), superposition(W), feature_dimensionality(W))
    for which, measure in enumerate(found):
        assert measure.shape == (*lead, feature)
        expected = torch.tensor([row[which] for row in rows], dtype=torch.float64)
        assert_close(measure.reshape(-1, feature), expected, ["norms", "others", "D"][which])
    assert_close(capacity(W), found[2])
    assert_close(example_dimensionality(W.mT), found[2])
    neurons = torch.tensor(
        [
            [max(map(abs, row)) / (sum(map(abs, row)) or 1.0) for row in one.tolist()]
            for one in flat
        ],
        dtype=torch.float64,
    )
    assert_close(monosemanticity(W).reshape(-1, d_hidden), neurons)


def _angles(k: int) -> Tensor:
    angles = torch.arange(k, dtype=torch.float64) * (2 * math.pi / k)
    return torch.stack([angles.cos(), angles.sin()])


_ROOT_3 = math.sqrt(3.0)
_TETRAHEDRON = torch.tensor([[1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]).double() / _ROOT_3
_ANTIPRISM = torch.cat(
    [
        torch.tensor([[1, 0, -1, 0, 1, -1, -1, 1], [0, 1, 0, -1, 1, 1, -1, -1]]).double()
        * torch.tensor([1.0] * 4 + [0.5**0.5] * 4, dtype=torch.float64)
        * (2 / 3) ** 0.5,
        torch.tensor([[1.0] * 4 + [-1.0] * 4]).double() / _ROOT_3,
    ]
)


@pytest.mark.parametrize(
    ("W", "expected"),
    [
        (torch.tensor([[1.0, -1.0]]).double(), 1 / 2),
        (_angles(3), 2 / 3),
        (_TETRAHEDRON, 3 / 4),
        (_angles(5), 2 / 5),
        (_ANTIPRISM, 3 / 8),
        (torch.eye(4).double(), 1.0),
    ],
    ids=["digon", "triangle", "tetrahedron", "pentagon", "square antiprism", "orthogonal"],
)
def test_polytopes_have_their_dimensionality(W: Tensor, expected: float) -> None:
    for scaled in (W, W * 1e-60, W * 1e60):
        assert float((feature_dimensionality(scaled) - expected).abs().max()) <= 1e-12
    assert float((superposition(W) - (1 / expected - 1)).abs().max()) <= 1e-12
    assert abs(float(dimensions_per_feature(W)) - W.shape[0] / W.shape[1]) <= 1e-12


def test_dimensions_per_feature_with_masked_dimensions() -> None:
    W = torch.ones(3, 4, 2)
    W[1, 2:] = 0.0
    W[2] = 0.0
    found = dimensions_per_feature(W, torch.tensor([4, 2, 4]))
    assert found.tolist() == [0.5, 0.5, math.inf]
    assert dimensions_per_feature(W, 3).tolist() == [3 / 8, 3 / 4, math.inf]


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 5, 3)])
def test_gradients(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True)
    for measure in (feature_norms, superposition, feature_dimensionality, monosemanticity):
        assert torch.autograd.gradcheck(measure, (W,))
        with_zeros = W.detach().clone()
        with_zeros[..., 0] = 0.0
        with_zeros.requires_grad_()
        (gradient,) = torch.autograd.grad(measure(with_zeros).sum(), with_zeros)
        assert gradient.isfinite().all()


def test_no_instance_is_another_and_the_large_square_is_never_made(
    monkeypatch: pytest.MonkeyPatch, assert_close: Callable[..., None]
) -> None:
    generator = torch.Generator().manual_seed(1)
    W = torch.randn(6, 5, 300, generator=generator)
    shapes: list[tuple[int, ...]] = []
    matmul = Tensor.__matmul__

    def watched(a: Tensor, b: Tensor) -> Tensor:
        product = matmul(a, b)
        shapes.append(tuple(product.shape))
        return product

    monkeypatch.setattr(Tensor, "__matmul__", watched)
    for measure in (superposition, feature_dimensionality):
        together = measure(W)
        assert_close(together, torch.stack([measure(one) for one in W]))
        assert_close(measure(W.half()), measure(W.half().float()))
    assert shapes and max(math.prod(shape) for shape in shapes) <= W.numel()


def test_dimensionalities_sum_to_at_most_the_rank() -> None:
    generator = torch.Generator().manual_seed(2)
    W = torch.randn(50, 3, 9, generator=generator)
    totals = feature_dimensionality(W).sum(-1)
    assert float(totals.max()) <= 3 + 1e-5
    assert float(totals.min()) >= 1 - 1e-5


@pytest.mark.parametrize("name", ["feature_norms", "superposition", "monosemanticity"])
@pytest.mark.parametrize("W", [torch.ones(3), torch.ones(2, 2).long(), torch.ones(2, 0)])
def test_bad_input(name: str, W: Tensor) -> None:
    with pytest.raises(InputError, match=r"directions must be floating-point.*Received shape"):
        getattr(measures, name)(W)


def test_bad_d_hidden() -> None:
    with pytest.raises(InputError, match="d_hidden must be a number and positive"):
        dimensions_per_feature(torch.ones(2, 2), 0)
    with pytest.raises(InputError, match=r"d_hidden must be positive. Received \[2, 0\]"):
        dimensions_per_feature(torch.ones(2, 2, 2), torch.tensor([2, 0]))
