"""The expected loss of a ReLU-output toy of several features, by points in place of examples.

`exact_loss` is exact and ends at four features. Here every set of features that may be present
together has a grid of its own, Gauss–Legendre along each feature, counted by how likely the set is.
Of a polynomial that is the integral itself; what is left are the places where a ReLU opens. 1,024
points a set leave an error of about 10⁻⁴ of the loss of random weights at densities up to 0.3, and
2 or 3·10⁻³ of that of digons, whose ReLUs open along the grid's diagonals; 64 points ten times as
much. Where all features are always present it is some 10⁻³ to 10⁻². Nothing is drawn, so that
losses can be minimised by a method that needs one function, and those of two models have no noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import require, require_whole

_MOST_FEATURES = 12  # 4,096 sets
_MOST_NODES = 64  # along one feature


@dataclass(frozen=True)
class Quadrature:
    """Points that stand for independent features, present or not, uniform in 0 … 1.

    Attributes:
        x: The points, of one set of present features after the other.
        present: Which features each point has.
        share: How much each point counts within its set.
    """

    x: Float[Tensor, "point feature"]
    present: Bool[Tensor, "point feature"]
    share: Float[Tensor, "point"]

    @classmethod
    def of(
        cls,
        n_features: int,
        points: int = 1024,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Points for this many features.

        Args:
            n_features: 1 … 12; there are 2ⁿ sets.
            points: Of each set, about: a set of k features has ⌊points^(1/k)⌋ᵏ, and 2ᵏ at least.
            dtype: Of the points.
            device: Where they are.

        Raises:
            InputError: If a number breaks its rule.
        """
        require_whole("n_features", n_features, 1)
        require_whole("points", points, 1)
        require(
            n_features <= _MOST_FEATURES,
            f"quadrature is of at most {_MOST_FEATURES} features. Received {n_features}",
        )
        xs, sets, shares = [], [], []
        for number in range(1 << n_features):
            members = [i for i in range(n_features) if number >> i & 1]
            grid, share = _grid(len(members), points)
            x = torch.zeros(len(grid), n_features, dtype=torch.float64)
            x[:, members] = grid
            xs.append(x)
            present = torch.zeros(n_features, dtype=torch.bool)
            present[members] = True
            sets.append(present.expand(len(grid), -1))
            shares.append(share)
        return cls(
            torch.cat(xs).to(device, dtype),
            torch.cat(sets).to(device),
            torch.cat(shares).to(device, dtype),
        )

    def weights(self, density: Float[Tensor, "... feature"]) -> Float[Tensor, "... point"]:
        """How much each point counts, with sum 1.

        Raises:
            InputError: for densities outside 0 … 1 or of another number of features.
        """
        require(
            density.shape[-1] == self.x.shape[1] and bool(((density >= 0) & (density <= 1)).all()),
            f"density must be [..., {self.x.shape[1]}] in 0 … 1. Received {density.tolist()!r:.80}",
        )
        p = density.to(self.x).unsqueeze(-2)
        return torch.where(self.present, p, 1 - p).prod(-1) * self.share


def expected_loss(
    W: Float[Tensor, "... d_hidden feature"],
    b: Float[Tensor, "... feature"],
    weights: Float[Tensor, "... point"],
    importance: Float[Tensor, "... feature"],
    quadrature: Quadrature,
) -> Float[Tensor, "..."]:
    """Σ_i I_i E (x_i - ReLU(WᵀW x + b)_i)² over the points of a quadrature, as `exact_loss` has it.

    Leading axes broadcast. Differentiable.

    Args:
        W: The directions.
        b: The bias of each output.
        weights: Of the points: `quadrature.weights(density)`.
        importance: I_i.
        quadrature: The points.
    """
    hidden = quadrature.x @ W.mT
    out = (hidden @ W + b.unsqueeze(-2)).relu()
    costs = ((out - quadrature.x).square() * importance.unsqueeze(-2)).sum(-1)
    return (costs * weights).sum(-1)


def _grid(n_axes: int, points: int) -> tuple[Tensor, Tensor]:
    """A grid in the cube of so many axes, and how much each of its points counts."""
    if n_axes == 0:
        return torch.zeros(1, 0, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    # A root that is whole must not be lost to rounding.
    count = min(max(2, int(points ** (1 / n_axes) + 1e-9)), _MOST_NODES)
    nodes, weights = np.polynomial.legendre.leggauss(count)
    along = torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)
    grid, shares = (torch.cartesian_prod(*[each] * n_axes).reshape(-1, n_axes) for each in along)
    return grid, shares.prod(-1)
