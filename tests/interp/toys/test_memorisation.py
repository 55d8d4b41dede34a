"""Numbers of directions, gaps of polygons, and classes of sizes."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp.errors import InputError
from interp.toys.measures import example_dimensionality
from interp.toys.memorisation import (
    effective_number,
    polygon_gaps,
    size_classes,
    typical_dimensionality,
)


@given(k=st.integers(3, 40), absent=st.integers(0, 5), angle=st.floats(0, 6))
def test_a_polygon_has_its_number_of_corners(k: int, absent: int, angle: float) -> None:
    angles = angle + 2 * math.pi * torch.randperm(k).double() / k
    corners = torch.stack([angles.cos(), angles.sin()], -1)
    hidden = torch.cat([corners, torch.zeros(absent, 2, dtype=torch.float64)])
    held = example_dimensionality(hidden)
    assert float(effective_number(held)) == pytest.approx(k, abs=1e-9)
    assert float(typical_dimensionality(held)) == pytest.approx(2 / k, abs=1e-9)
    gaps = polygon_gaps(corners)
    torch.testing.assert_close(gaps, torch.full_like(gaps, 360 / k), rtol=0, atol=1e-9)


def test_uneven_numbers_by_hand() -> None:
    held = torch.tensor([[1.0, 0.5, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(effective_number(held), torch.tensor([4 / 1.5, 0.0]).double())
    torch.testing.assert_close(typical_dimensionality(held), torch.tensor([0.75, 0.0]).double())


def test_gaps_by_hand() -> None:
    """At 0, 90 and 225 degrees, of any length and in any order."""
    turns = torch.tensor([225.0, 0.0, 90.0], dtype=torch.float64).deg2rad()
    hidden = torch.stack([turns.cos(), turns.sin()], -1) * torch.tensor([[1.0], [3.0], [0.2]])
    torch.testing.assert_close(
        polygon_gaps(hidden).sort().values, torch.tensor([90, 135, 135.0]).double()
    )
    several = torch.stack([hidden, hidden.roll(1, -1)])
    assert polygon_gaps(several).shape == (2, 3)


@given(
    sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=20),
    spread=st.floats(1, 5),
    smallest=st.integers(0, 300),
)
def test_classes_hold_every_size_once_and_are_narrow(
    sizes: list[int], spread: float, smallest: int
) -> None:
    classes = size_classes(sizes, spread, smallest)
    assert sorted(size for each in classes for size in each) == sorted(set(sizes))
    for each in classes:
        assert each == sorted(each, reverse=True) and each
        assert each[0] <= smallest or (each[0] <= spread * each[-1] and each[-1] > smallest)
    for one, other in itertools.pairwise(classes):
        assert one[0] < other[-1]
        # No two neighbours could have been one.
        assert other[0] > smallest and (one[0] <= smallest or other[-1] > spread * one[-1])


def test_classes_by_hand() -> None:
    found = size_classes([3, 1200, 150, 80, 600, 300, 3])
    assert found == [[80, 3], [300, 150], [1200, 600]]


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match=r"negative. Received -1"):
        effective_number(torch.tensor([1.0, -1.0]))
    with pytest.raises(InputError, match=r"\[\.\.\. item\]"):
        typical_dimensionality(torch.zeros(2, 0))
    with pytest.raises(InputError, match=r"Received shape \[3, 3\]"):
        polygon_gaps(torch.zeros(3, 3))
    with pytest.raises(InputError, match="Received none"):
        size_classes([])
    with pytest.raises(InputError, match="spread must be at least 1"):
        size_classes([3], spread=0.5)
