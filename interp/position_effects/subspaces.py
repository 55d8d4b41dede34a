"""Whether two places of a model hold position in the same directions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import require, require_whole


def principal_angles(
    a: Float[Tensor, "component d"], b: Float[Tensor, "component_b d"]
) -> Float[Tensor, "angle"]:
    """The angles between two subspaces, in radians from 0 to π/2, smallest first (fp64).

    As many as the smaller has dimensions. Small ones are taken from sines and large ones from
    cosines, as neither is exact where it is flat (Björck and Golub 1973).

    Args:
        a, b: Orthonormal rows that span them.

    Raises:
        InputError: for rows that are not orthonormal, or of spaces of different widths.
    """
    a, b = _checked(a, "a"), _checked(b, "b")
    require(
        a.shape[1] == b.shape[1],
        f"subspaces must lie in one space. Received widths {a.shape[1]} and {b.shape[1]}",
    )
    if a.shape[0] > b.shape[0]:
        a, b = b, a
    cosines = torch.linalg.svdvals(a @ b.T).clamp(max=1)
    sines = torch.linalg.svdvals(a - (a @ b.T) @ b).clamp(max=1).flip(0)
    return torch.where(cosines.square() > 0.5, sines.asin(), cosines.acos())


def overlap(angles: Float[Tensor, "angle"]) -> float:
    """The mean squared cosine of principal angles: 1 for one inside the other, 0 for orthogonal."""
    return float(angles.cos().square().mean())


def random_overlap(
    d: int, rank: int, other_rank: int, draws: int = 200, seed: int = 0
) -> tuple[float, float]:
    """The overlap of random subspaces of these ranks: its expectation, and its 95 % quantile.

    The expectation is max(rank, other_rank) / d; the quantile is that of seeded draws.

    Raises:
        InputError: for ranks outside 1 … d, and fewer than one draw.
    """
    for name, value in (("rank", rank), ("other_rank", other_rank), ("draws", draws)):
        require_whole(name, value, 1)
    require(max(rank, other_rank) <= d, f"ranks must be within {d}. Received {rank}, {other_rank}")
    generator = torch.Generator().manual_seed(seed)
    small, large = sorted((rank, other_rank))
    drawn = torch.randn(draws, d, small, generator=generator, dtype=torch.float64)
    basis = torch.linalg.qr(drawn).Q
    # Turned so that the other is spanned by the first axes: only the angle between them matters.
    found = basis[:, :large].square().sum((1, 2)) / small
    return large / d, float(found.quantile(0.95))


def _checked(rows: Tensor, name: str) -> Float[Tensor, "component d"]:
    require(
        rows.ndim == 2 and len(rows) > 0,
        f"{name} must be [component, d], one or more. Received {tuple(rows.shape)}",
    )
    wide = rows.double()
    error = float(
        (wide @ wide.T - torch.eye(len(wide), dtype=wide.dtype, device=wide.device)).abs().max()
    )
    require(error < 1e-4, f"{name} must have orthonormal rows. They are off by {error:.1e}")
    return wide
