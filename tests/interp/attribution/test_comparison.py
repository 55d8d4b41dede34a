"""Rank correlation and scale, against numbers made by hand and by pandas."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp import InputError
from interp.attribution.comparison import agreement, spearman


@given(
    pairs=st.lists(st.tuples(st.integers(-3, 3), st.floats(-2, 2, width=32)), min_size=2),
)
def test_as_pandas_with_ties(pairs: list[tuple[int, float]]) -> None:
    x, y = (torch.tensor(column, dtype=torch.float64) for column in zip(*pairs, strict=True))
    found = spearman(x, y)
    ranks = [pd.Series(v.numpy()).rank() for v in (x, y)]
    if any(r.nunique() == 1 for r in ranks):
        assert math.isnan(found)
    else:
        assert found == pytest.approx(ranks[0].corr(ranks[1]), abs=1e-12)


def test_by_hand() -> None:
    exact = torch.tensor([4.0, -2.0, 1.0, torch.nan])
    found = agreement(torch.tensor([1.0, -0.5, 0.25, 3.0]), exact)
    assert found.n == 3
    assert (found.signed, found.magnitude, found.scale) == pytest.approx((1.0, 1.0, 0.25))
    # Ranks 3, 1, 2 against 1, 2, 3: 1 - 6 · (4 + 1 + 1) / 24.
    assert spearman(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([1.0, 2.0, 3.0])) == pytest.approx(
        -0.5
    )
    sizes = agreement(torch.tensor([2.0, 1.0, 0.5, 3.0]), exact, signed=False)
    assert math.isnan(sizes.signed)
    assert (sizes.magnitude, sizes.scale) == pytest.approx((1.0, 0.5))
    opposite = agreement(torch.tensor([-4.0, 2.0, -1.0, 0.0]), exact)
    assert (opposite.signed, opposite.magnitude, opposite.scale) == pytest.approx((-1, 1, -1))


def test_leading_places() -> None:
    """Of 20 places the first two lead; the estimate has one of them, and another, ahead."""
    exact = torch.arange(20, 0, -1.0)
    estimates = exact.clone()
    estimates[1], estimates[7] = 0.0, -30.0
    assert agreement(estimates, exact).leading == 0.5
    assert agreement(-exact, exact).leading == 1.0
    # What is 0 does not lead, though as many places are looked at.
    none = torch.zeros(20)
    assert math.isnan(agreement(none, none).leading)
    assert math.isnan(agreement(exact * 1e-12, none, floor=1e-10).leading)
    few = none.clone()
    few[0] = 1.0
    assert agreement(few, few).leading == 1.0
    assert agreement(none, few).leading == 0.0


def test_rounding_has_no_rank() -> None:
    exact = torch.tensor([3.0, -2.0, 1.0, 1e-12, -1e-12])
    estimates = torch.tensor([3.0, -2.0, 1.0, -1e-13, 0.0])
    assert agreement(estimates, exact, floor=1e-10).signed == pytest.approx(1.0)
    assert agreement(estimates, exact).signed < 0.99


def test_bad_input() -> None:
    with pytest.raises(InputError, match="same shape"):
        agreement(torch.zeros(2), torch.zeros(3))
    with pytest.raises(InputError, match="two numbers at least"):
        spearman(torch.zeros(1), torch.zeros(1))
    with pytest.raises(InputError, match="finite"):
        spearman(torch.tensor([1.0, torch.inf]), torch.zeros(2))
