"""How well estimates rank and size what they are estimates of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import require


@dataclass(frozen=True)
class Agreement:
    """Estimates beside the exact changes, over the same places.

    Attributes:
        n: How many places.
        signed: Spearman's rank correlation of the two. NaN for estimates without a sign, and where
            either is the same everywhere.
        magnitude: That of their absolute values.
        leading: Of the tenth of places (one at least) with the largest exact changes, the share
            that is among as many places with the largest estimates. What is 0 is neither; NaN if
            all exact changes are.
        scale: Σ estimate · exact / Σ exact²: the factor by which estimates are too large (above 1)
            or too small. Of absolute values where estimates have no sign. NaN if all are 0.
    """

    n: int
    signed: float
    magnitude: float
    leading: float
    scale: float


def agreement(
    estimates: Float[Tensor, "*grid"],
    exact: Float[Tensor, "*grid"],
    signed: bool = True,
    floor: float = 0.0,
) -> Agreement:
    """Compare estimated with exact changes.

    Args:
        estimates, exact: Of the same shape; places where either is NaN are left out.
        signed: Whether estimates have a sign.
        floor: Changes up to this size are taken for 0, estimated and exact: what rounding leaves
            where nothing changes would have a rank of its own otherwise.

    Raises:
        InputError: for different shapes, or fewer than two places.
    """
    require(
        estimates.shape == exact.shape,
        "estimates and exact changes must have the same shape. "
        f"Received {tuple(estimates.shape)} and {tuple(exact.shape)}",
    )
    there = ~(estimates.isnan() | exact.isnan())
    found, true = (
        torch.where(x.abs() > floor, x, 0.0)
        for x in (estimates[there].double(), exact[there].double())
    )
    of_signs = spearman(found, true) if signed else torch.nan
    sizes = spearman(found.abs(), true.abs())
    first, wanted = (_largest(x, max(len(x) // 10, 1)) for x in (found, true))
    leading = float(torch.isin(wanted, first).double().mean())
    if not signed:
        found, true = found.abs(), true.abs()
    scale = float((found @ true) / (true @ true))
    return Agreement(len(found), of_signs, sizes, leading, scale)


def spearman(x: Float[Tensor, "place"], y: Float[Tensor, "place"]) -> float:
    """Spearman's ρ: the correlation of ranks, equal numbers sharing their mean rank.

    NaN where all of one are equal.

    Raises:
        InputError: for fewer than two numbers, numbers that are not finite, or other lengths.
    """
    require(
        x.ndim == 1 and x.shape == y.shape and len(x) > 1,
        f"ranks need two numbers at least, as many of both. Received {list(x.shape)} and "
        f"{list(y.shape)}",
    )
    require(
        bool(x.isfinite().all() & y.isfinite().all()), "ranks need finite numbers. Some are not"
    )
    a, b = (r - r.mean() for r in (_ranks(x), _ranks(y)))
    return float((a @ b) / (a.norm() * b.norm()))


def _largest(x: Float[Tensor, "place"], n: int) -> Int[Tensor, "some"]:
    """Where the n largest sizes are; fewer, where fewer are more than 0."""
    top = x.abs().topk(n)
    return top.indices[top.values > 0]


def _ranks(x: Float[Tensor, "place"]) -> Float[Tensor, "place"]:
    _, which, counts = x.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[which]
