"""What is computed in at least fp32."""

from __future__ import annotations

import pytest
import torch

from interp.precision import wide


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.float16, torch.float32), (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32), (torch.float64, torch.float64),
        (torch.int64, torch.float32), (torch.bool, torch.float32),
    ],
    ids=str,
)  # fmt: skip
def test_nothing_is_lost_of_wider_numbers(given: torch.dtype, expected: torch.dtype) -> None:
    x = torch.tensor([0.0, 1.0, 2.5]).to(given)
    found = wide(x)
    assert found.dtype == expected
    assert torch.equal(found.to(given), x)
    assert (found is x) == (given in (torch.float32, torch.float64))
