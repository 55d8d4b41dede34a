"""The error that checks report."""

from __future__ import annotations

import pytest
import torch

from analyses.results.checks import TOLERANCES, scaled_error
from interp.devices.parsing import DTYPES


@pytest.mark.parametrize(
    ("found", "expected", "error"),
    [
        ([1.0, 2.5], [1.0, 2.0], 0.25),  # over the largest reference
        ([0.1, 0.0], [0.0, 0.0], 0.1),  # never over less than one
        ([3.0], [3.0], 0.0),
    ],
)
def test_scaled_error_by_hand(found: list[float], expected: list[float], error: float) -> None:
    result = scaled_error(torch.tensor(found), torch.tensor(expected, dtype=torch.float64))
    assert result == pytest.approx(error, abs=1e-8)


def test_every_dtype_has_a_tolerance() -> None:
    assert set(TOLERANCES) == set(DTYPES.values())
