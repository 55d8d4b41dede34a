"""Half precision made wide enough to compute in."""

from __future__ import annotations

import torch
from jaxtyping import Shaped
from torch import Tensor


def wide(x: Shaped[Tensor, "*axes"]) -> Shaped[Tensor, "*axes"]:
    """A tensor in at least fp32: sums of many half-precision terms lose what they are to show."""
    return x if x.dtype == torch.float64 else x.float()
