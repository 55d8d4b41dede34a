"""How analyses measure that two ways to a number agree."""

from __future__ import annotations

import torch
from jaxtyping import Shaped
from torch import Tensor

SCALED = "largest |difference| over max(1, largest |reference|)"
"""What `scaled_error` measures, for the note of a check."""

TOLERANCES = {
    torch.float64: 1e-10,
    torch.float32: 1e-5,
    torch.float16: 1e-2,
    torch.bfloat16: 1e-1,
}
"""The largest scaled error that is put down to rounding, by the model's dtype."""


def scaled_error(found: Shaped[Tensor, "*axes"], expected: Shaped[Tensor, "*axes"]) -> float:
    """Largest |found - expected| over max(1, largest |expected|), taken in fp64."""
    found, expected = found.double(), expected.double()
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1.0))
