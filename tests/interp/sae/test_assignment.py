"""The best assignment beside scipy's and all permutations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import InputError
from interp.sae import best_assignment


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(0, 5),
    columns=st.integers(0, 5),
    levels=st.sampled_from([2, 5, 1000]),  # few: many ties
    seed=st.integers(0, 999),
)
def test_no_permutation_is_better(rows: int, columns: int, levels: int, seed: int) -> None:
    gain = np.random.default_rng(seed).integers(-levels, levels, (rows, columns)).astype(float)
    r, c = best_assignment(gain)
    n = min(rows, columns)
    assert len(r) == len(c) == len(set(r)) == len(set(c)) == n
    assert list(r) == sorted(r)
    wide = gain if rows <= columns else gain.T
    best = max(
        sum(wide[i, j] for i, j in enumerate(chosen))
        for chosen in itertools.permutations(range(wide.shape[1]), n)
    )
    assert gain[r, c].sum() == best


@pytest.mark.parametrize("shape", [(60, 90), (90, 60), (80, 80)])
def test_as_good_as_scipy(shape: tuple[int, int]) -> None:
    optimize = pytest.importorskip("scipy.optimize", reason="needs the extra 'dev'")
    gain = np.random.default_rng(1).normal(size=shape)
    rows, columns = optimize.linear_sum_assignment(gain, maximize=True)
    r, c = best_assignment(gain)
    assert np.array_equal(r, rows) and np.array_equal(c, columns)


@pytest.mark.parametrize("gain", [np.zeros(3), np.array([[np.nan]]), np.array([[np.inf, 0.0]])])
def test_other_gains_are_refused(gain: np.ndarray) -> None:
    with pytest.raises(InputError, match="matrix of finite numbers"):
        best_assignment(gain)
