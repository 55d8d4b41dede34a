"""Groups of features against plain loops, arrangements known by hand, and drawn data."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InputError
from interp.toys import SparseFeatures
from interp.toys.groups import (
    angles_within_groups,
    group_covariance,
    group_interference,
    principal_share,
)
from interp.toys.measures import superposition


@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(2, 4),
    groups=st.integers(1, 3),
    d_hidden=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_measures_are_their_formulas(
    assert_close: Callable[..., None], size: int, groups: int, d_hidden: int, seed: int
) -> None:
    n = size * groups
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(2, d_hidden, n, dtype=torch.float64, generator=generator)
    angles, share = angles_within_groups(W, size), principal_share(W, size)
    within, between = group_interference(W, size)
    assert angles.shape == (2, groups, size * (size - 1) // 2)
    for k in range(2):
        columns = W[k].T.tolist()
        dot = [[sum(a * b for a, b in zip(u, v, strict=True)) for v in columns] for u in columns]
        for g in range(groups):
            members = range(g * size, (g + 1) * size)
            pairs = [(i, j) for i in members for j in members if i < j]
            for place, (i, j) in enumerate(pairs):
                cosine = max(-1.0, min(1.0, dot[i][j] / math.sqrt(dot[i][i] * dot[j][j])))
                assert float(angles[k, g, place].deg2rad().cos()) == pytest.approx(cosine, abs=1e-9)
        sums = sum(dot[i][j] for i in range(n) for j in range(n) if i // size == j // size)
        assert float(share[k]) == pytest.approx(
            sums / size / sum(dot[i][i] for i in range(n)), abs=1e-10
        )
        for i in range(n):
            squares = [dot[i][j] ** 2 / dot[i][i] for j in range(n)]
            same = [squares[j] for j in range(n) if j // size == i // size and j != i]
            other = [squares[j] for j in range(n) if j // size != i // size]
            assert float(within[k, i]) == pytest.approx(sum(same), abs=1e-9)
            assert float(between[k, i]) == pytest.approx(sum(other), abs=1e-9)
    assert_close(within + between, superposition(W))


def test_arrangements_known_by_hand() -> None:
    orthogonal = torch.tensor([[1.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, -1.0]])
    assert angles_within_groups(orthogonal, 2).flatten().tolist() == [90.0, 90.0]
    assert float(principal_share(orthogonal, 2)) == 0.5
    within, between = group_interference(orthogonal, 2)
    assert within.tolist() == [0.0] * 4 and between.tolist() == [1.0] * 4
    antipodal = torch.tensor([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]])
    assert angles_within_groups(antipodal, 2).flatten().tolist() == [180.0, 180.0]
    assert float(principal_share(antipodal, 2)) == 0.0
    merged = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 2.0, 2.0]])
    assert float(principal_share(merged, 2)) == 1.0
    absent = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert angles_within_groups(absent, 2).isnan().all()
    assert group_interference(absent, 2)[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("density", "correlation", "size"),
    [(0.4, 1.0, 2), (0.3, 0.5, 3), (0.3, -1.0, 3), (0.5, -0.6, 2)],
)
def test_covariance_is_that_of_the_data(density: float, correlation: float, size: int) -> None:
    n, count = 2 * size, 60_000
    data = SparseFeatures.of(
        1, n, density, correlation=correlation, group_size=size, dtype=torch.float64
    )
    x = data.batch(0, count).x[0] - density / 2
    products = x[:, :, None] * x[:, None]
    stderr = products.std(0) / count**0.5
    expected = group_covariance(density, correlation, size, n)
    assert float(((products.mean(0) - expected).abs() / stderr).max()) < 4.5
    assert float((expected / stderr).abs().max()) > 20  # it could have been noticed


def test_bad_input() -> None:
    W = torch.ones(2, 6)
    for function in (angles_within_groups, principal_share, group_interference):
        with pytest.raises(InputError, match="multiple of group_size"):
            function(W, 4)
        with pytest.raises(InputError, match="group_size"):
            function(W, 1)
        with pytest.raises(InputError, match="W must be"):
            function(W[0], 2)
    for arguments in ((1.5, 0.0, 2, 4), (0.5, 2.0, 2, 4), (0.5, 0.5, 3, 4), (0.5, 0.5, 2, 0)):
        with pytest.raises(InputError):
            group_covariance(*arguments)
