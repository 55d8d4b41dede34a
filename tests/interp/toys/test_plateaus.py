"""Counts at fractions against a plain loop, and on polytopes whose fractions are known."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InputError
from interp.toys import polytopes
from interp.toys.measures import feature_dimensionality
from interp.toys.plateaus import NAMED_FRACTIONS, plateau


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.integers(0, 1000), min_size=1, max_size=40),
    fraction=st.integers(0, 1000),
    half_width=st.integers(1, 20),
    gap=st.integers(1, 20),
)
def test_counts_are_those_of_a_loop(
    values: list[int], fraction: int, half_width: int, gap: int
) -> None:
    """In thousandths, windows end between two values."""
    flank = 2 * half_width + gap
    found = plateau(
        torch.tensor(values) / 1000, fraction / 1000, (half_width + 0.5) / 1000, (flank + 1) / 1000
    )
    expected = [
        sum(abs(value - fraction - shift) <= half_width for value in values)
        for shift in (0, -flank - 1, flank + 1)
    ]
    assert [int(found.within), int(found.below), int(found.above)] == expected


def test_each_named_fraction_is_its_shape() -> None:
    shapes = {
        "dedicated dimension": torch.ones(1, 1, dtype=torch.float64),
        "tetrahedron": polytopes.tetrahedron(),
        "triangle": polytopes.triangle(),
        "digon": polytopes.digon(),
        "pentagon": polytopes.pentagon(),
        "square antiprism": polytopes.square_antiprism(),
    }
    assert [one.shape for one in NAMED_FRACTIONS] == list(shapes)
    for named in NAMED_FRACTIONS:
        D = feature_dimensionality(shapes[named.shape])
        assert float((D - float(named)).abs().max()) <= 1e-12
        found = plateau(D, float(named))
        assert (int(found.within), int(found.below), int(found.above)) == (len(D), 0, 0)


def test_a_plateau_stands_out_by_number_and_by_flanks() -> None:
    def found(within: int, below: int, above: int) -> bool:
        counts = [0.5] * within + [0.4875] * below + [0.5125] * above
        return bool(plateau(torch.tensor(counts), 0.5).stands_out())

    assert found(10, 5, 5) and found(10, 0, 0)
    assert not found(9, 0, 0)
    assert not found(10, 6, 0) and not found(10, 0, 6)


def test_leading_axes_are_kept() -> None:
    D = torch.tensor([[0.5, 0.5, 0.2], [0.2, 0.49, 0.51]])
    assert plateau(D, 0.5).within.tolist() == [2, 0]


@pytest.mark.parametrize(
    "arguments", [{"fraction": 1.1}, {"half_width": 0.0}, {"half_width": 0.01, "flank": 0.02}]
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(InputError):
        plateau(torch.tensor([0.5]), **{"fraction": 0.5, **arguments})
