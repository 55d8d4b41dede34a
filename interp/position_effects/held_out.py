"""Which positions are held out together, for fits that are tried on what they have not seen.

Not every fifth: of a curve that comes back every five positions (a model that counts by five has
one), that would hold out a whole place of the cycle, which nothing else tells of.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

FOLDS = 5
"""Groups of positions, each held out once."""


def scattered(n: int, device: torch.device | str = "cpu") -> Int[Tensor, "pos"]:
    """The group of each position, in no order: groups of n / 5, the same ones for the same n."""
    drawn = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    return (drawn % FOLDS).to(device)


def blocks(n: int, device: torch.device | str = "cpu") -> Int[Tensor, "pos"]:
    """The group of each position, neighbours together: groups of n / 5."""
    return torch.arange(n, device=device) * FOLDS // n
