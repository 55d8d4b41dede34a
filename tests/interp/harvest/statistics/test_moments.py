"""Moments beside numpy's two passes, however rows are cut into shards."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import InputError
from interp.harvest.statistics import Moments


def merged(rows: torch.Tensor, cuts: list[int]) -> Moments:
    parts = [Moments.measure(part) for part in rows.tensor_split(sorted(cuts))]
    return reduce(Moments.merge, parts)


def compare(found: Moments, rows: torch.Tensor) -> None:
    x = rows.double().numpy()
    mean, variance = x.mean(0), x.var(0)
    assert found.n_rows == len(rows)
    assert found.mean.shape == found.squares.shape == rows.shape[1:]
    np.testing.assert_allclose(found.mean.numpy(), mean, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(found.variance().numpy(), variance, rtol=1e-10, atol=1e-10)
    assert np.array_equal(found.least.numpy(), x.min(0))
    assert np.array_equal(found.greatest.numpy(), x.max(0))


@settings(deadline=None)
@given(
    shape=st.lists(st.integers(1, 5), max_size=3).map(tuple),
    n=st.integers(1, 40),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
)
def test_any_cut_gives_what_two_passes_give(
    shape: tuple[int, ...], n: int, cuts: list[int], dtype: torch.dtype, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(n, *shape, generator=generator).to(dtype)
    compare(merged(rows, cuts), rows)


def test_a_mean_far_from_zero_costs_no_digits() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = 1e5 + torch.randn(50_000, 3, generator=generator, dtype=torch.float64)
    found = merged(rows, [7, 20_000])
    exact = (rows - 1e5).numpy()  # this subtraction is exact
    np.testing.assert_allclose(found.variance().numpy(), exact.var(0), rtol=1e-10)
    np.testing.assert_allclose(found.mean.numpy() - 1e5, exact.mean(0), atol=1e-10)


@pytest.mark.parametrize("width", [1, 3, 64])
def test_the_number_of_threads_does_not_change_bits(width: int) -> None:
    rows = torch.randn(20_000, width, generator=torch.Generator().manual_seed(1))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = Moments.measure(rows).to_tensors()
        torch.set_num_threads(2)
        two = Moments.measure(rows).to_tensors()
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_shards_without_rows_change_nothing() -> None:
    rows = torch.randn(9, 4, generator=torch.Generator().manual_seed(2))
    none, some = Moments.measure(rows[:0]), Moments.measure(rows)
    assert none.n_rows == 0
    for found in (none.merge(some), some.merge(none)):
        compare(found, rows)
        assert all(torch.equal(a, b) for a, b in zip(
            found.to_tensors().values(), some.to_tensors().values(), strict=True
        ))  # fmt: skip
    assert none.merge(none).n_rows == 0


def test_whole_numbers() -> None:
    rows = torch.tensor([[1, 5], [2, 9], [2, -7]])
    found = Moments.measure(rows)
    assert found.mean.tolist() == pytest.approx([5 / 3, 7 / 3], rel=1e-15)
    assert found.least.tolist() == [1, -7]


@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan])
def test_rows_must_be_finite(bad: float) -> None:
    rows = torch.ones(300, 2)
    rows[77, 1] = bad
    with pytest.raises(InputError, match="rows must be finite"):
        Moments.measure(rows)
