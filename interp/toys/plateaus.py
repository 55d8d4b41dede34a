"""Where the dimensionalities of many features gather: the fractions that polytopes have.

Elhage et al. 2022, "The Geometry of Superposition": with many features of one importance and one
density, D_i is not spread evenly but lies at the fractions of simple polytopes.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import require, require_number


@dataclass(frozen=True)
class NamedFraction:
    """A dimensionality that features of one polytope have.

    Attributes:
        fraction: The dimensions it spans by its vertices.
        shape: Its name.
    """

    fraction: Fraction
    shape: str

    def __float__(self) -> float:
        return float(self.fraction)

    def __str__(self) -> str:
        return f"{self.fraction} {self.shape}"


NAMED_FRACTIONS = (
    NamedFraction(Fraction(1), "dedicated dimension"),
    NamedFraction(Fraction(3, 4), "tetrahedron"),
    NamedFraction(Fraction(2, 3), "triangle"),
    NamedFraction(Fraction(1, 2), "digon"),
    NamedFraction(Fraction(2, 5), "pentagon"),
    NamedFraction(Fraction(3, 8), "square antiprism"),
)
"""The lines of the paper's figure of dimensionalities."""


@dataclass(frozen=True)
class Plateau:
    """How many features lie at a fraction, and how many on either side of it.

    The three windows are of one width and do not overlap. At the fraction 1 there is hardly
    anything above.

    Attributes:
        within: Features with |D - fraction| ≤ half_width.
        below, above: The same about fraction - flank and fraction + flank.
    """

    within: Int[Tensor, "..."]
    below: Int[Tensor, "..."]
    above: Int[Tensor, "..."]

    def stands_out(self, least: int = 10, times: float = 2.0) -> Bool[Tensor, "..."]:
        """Whether there are at least so many, and so many times more than in either flank."""
        flanks = torch.maximum(self.below, self.above)
        return (self.within >= least) & (self.within >= times * flanks)


def plateau(
    dimensionality: Float[Tensor, "... feature"],
    fraction: float,
    half_width: float = 0.005,
    flank: float = 0.0125,
) -> Plateau:
    """Count the features at a fraction and beside it.

    Args:
        dimensionality: D_i, as `feature_dimensionality` gives it.
        fraction: In 0 … 1.
        half_width: Of each window.
        flank: From the fraction to the middle of either flank.

    Raises:
        InputError: If a fraction lies outside 0 … 1, or windows overlap.
    """
    require(0 <= fraction <= 1, f"fraction must lie in 0 … 1. Received {fraction}")
    require_number("half_width", half_width)
    require(
        flank > 2 * half_width,
        f"flank must be more than twice half_width ({half_width}), or windows overlap. "
        f"Received {flank}",
    )
    D = dimensionality.detach().double()
    counts = [
        ((D - centre).abs() <= half_width).sum(-1)
        for centre in (fraction, fraction - flank, fraction + flank)
    ]
    return Plateau(*counts)
