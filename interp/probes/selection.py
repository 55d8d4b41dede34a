"""Grids of regularisation, and the choice from one by validation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import InputError, require, require_number, require_whole


def log_grid(low: float, high: float, n: int) -> tuple[float, ...]:
    """Numbers from low to high at equal ratios.

    Raises:
        InputError: for ends that are not positive and ascending, or fewer than two numbers.
    """
    require_number("low", low)
    require_number("high", high)
    require(high > low, f"high must be above low, {low}. Received {high}")
    require_whole("n", n, 2)
    step = (math.log10(high) - math.log10(low)) / (n - 1)
    return tuple(10 ** (math.log10(low) + i * step) for i in range(n))


DEFAULT_ALPHAS = log_grid(1e-2, 1e5, 8)
DEFAULT_CS = log_grid(1e-4, 1.0, 5)


def checked_grid(name: str, grid: Sequence[float]) -> tuple[float, ...]:
    """A grid, ascending.

    Raises:
        InputError: for an empty grid, or one with numbers that are not positive and finite, or with
            one twice.
    """
    require(len(grid) > 0, f"{name} must hold at least one number. Received none")
    for value in grid:
        require_number(f"each of {name}", value)
    require(len(set(grid)) == len(grid), f"{name} must differ. Received {tuple(grid)!r}")
    return tuple(sorted(float(value) for value in grid))


def choose(
    losses: Float[Tensor, "site option"], sites: Sequence[str], simplest_first: bool
) -> Int[Tensor, "site"]:
    """The option with the least validation loss at each site; of equal ones the simplest.

    Args:
        losses: On validation samples.
        sites: Their names.
        simplest_first: Whether the first option is the most regularised one (else the last).

    Raises:
        InputError: where a loss is not finite.
    """
    bad = (~losses.isfinite()).any(1).tolist()
    for site, is_bad in zip(sites, bad, strict=True):
        if is_bad:
            raise InputError(f"the validation loss at {site!r} is not finite.")
    order = losses if simplest_first else losses.flip(1)
    # argmin may give any of several equal ones; the first is the first that reaches the least.
    first = (order == order.min(1, keepdim=True).values).to(torch.int8).argmax(1)
    return first if simplest_first else losses.shape[1] - 1 - first
