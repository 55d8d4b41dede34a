"""Arrangements of unit vectors that features take, by construction, in fp64.

Each is a `W [d_hidden, feature]` with unit columns of known dimensionality: all but the antiprism
at other heights and products of unlike parts are tight frames, so that D = d_hidden / feature.
Names are those of Elhage et al. 2022, "The geometry of superposition": a digon is a pair of
antipodes; a tegum product puts its parts into subspaces that are orthogonal to one another.
"""

from __future__ import annotations

import math
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import require, require_whole


def digon() -> Float[Tensor, "1 2"]:
    """Two antipodes: D = 1/2."""
    return torch.tensor([[1.0, -1.0]], dtype=torch.float64)


def regular_polygon(n_features: int) -> Float[Tensor, "2 feature"]:
    """Vertices of a regular polygon, three or more: D = 2/k.

    Raises:
        InputError: for fewer vertices.
    """
    require_whole("n_features", n_features, 3)
    angles = torch.arange(n_features, dtype=torch.float64) * (2 * math.pi / n_features)
    return torch.stack([angles.cos(), angles.sin()])


def triangle() -> Float[Tensor, "2 3"]:
    """D = 2/3."""
    return regular_polygon(3)


def pentagon() -> Float[Tensor, "2 5"]:
    """D = 2/5."""
    return regular_polygon(5)


def simplex(n_features: int) -> Float[Tensor, "d_hidden feature"]:
    """k equidistant vectors in k - 1 dimensions, all products -1/(k - 1): D = (k - 1)/k.

    Raises:
        InputError: for fewer than two vertices.
    """
    require_whole("n_features", n_features, 2)
    W = digon()
    for k in range(3, n_features + 1):  # a vertex on a new axis, the others lowered along it
        height = 1 / (k - 1)
        below = torch.full((1, k - 1), -height, dtype=torch.float64)
        W = torch.cat([W * math.sqrt(1 - height * height), below])
        top = torch.zeros(k - 1, 1, dtype=torch.float64)
        top[-1] = 1.0
        W = torch.cat([W, top], 1)
    return W


def tetrahedron() -> Float[Tensor, "3 4"]:
    """D = 3/4."""
    return simplex(4)


def orthoplex(d_hidden: int) -> Float[Tensor, "d_hidden feature"]:
    """The cross-polytope: a pair of antipodes on each axis, D = 1/2; a tegum product of digons.

    Raises:
        InputError: for fewer than one dimension.
    """
    require_whole("d_hidden", d_hidden, 1)
    return tegum_product(*[digon()] * d_hidden)


def octahedron() -> Float[Tensor, "3 6"]:
    """The orthoplex in three dimensions: D = 1/2."""
    return orthoplex(3)


def square_antiprism(squared_height: float = 1 / 3) -> Float[Tensor, "3 8"]:
    """Two squares, one turned by 45° against the other, at heights ± z.

    With z² = 1/3 a tight frame, D = 3/8, as toys learn it. The charges of the Thomson problem rest
    at another height; so does the antiprism whose edges are equal.

    Args:
        squared_height: z² of unit vectors, above 0 and below 1.

    Raises:
        InputError: for another one.
    """
    require(
        0 < squared_height < 1,
        f"squared_height must lie between 0 and 1. Received {squared_height}",
    )
    turned = torch.arange(8, dtype=torch.float64) * (math.pi / 2)
    turned[4:] += math.pi / 4
    W = torch.stack([turned.cos(), turned.sin()]) * math.sqrt(1 - squared_height)
    height = torch.full((1, 8), math.sqrt(squared_height), dtype=torch.float64)
    height[:, 4:] *= -1
    return torch.cat([W, height])


def cube() -> Float[Tensor, "3 8"]:
    """D = 3/8, as for the square antiprism, at other angles."""
    corners = torch.tensor(list(product((1.0, -1.0), repeat=3)), dtype=torch.float64)
    return corners.T / math.sqrt(3)


def icosahedron() -> Float[Tensor, "3 12"]:
    """D = 1/4."""
    golden = (1 + math.sqrt(5)) / 2
    corners = [
        [*((0.0, a, b * golden)[(i - shift) % 3] for i in range(3))]
        for shift in range(3)
        for a, b in product((1.0, -1.0), repeat=2)
    ]
    W = torch.tensor(corners, dtype=torch.float64).T
    return W / math.sqrt(1 + golden * golden)


def bipyramid(n_features: int) -> Float[Tensor, "3 feature"]:
    """A regular polygon and the two poles above and below: its tegum product with a digon.

    Of five (a triangular one) and seven features (a pentagonal one): solutions of the Thomson
    problem.

    Args:
        n_features: Of all, poles included; five or more.

    Raises:
        InputError: for fewer.
    """
    require_whole("n_features", n_features, 5)
    return tegum_product(regular_polygon(n_features - 2), digon())


def tegum_product(*parts: Float[Tensor, "_ _"]) -> Float[Tensor, "d_hidden feature"]:
    """Each part in its own dimensions, orthogonal to all the others: a block-diagonal W.

    Every feature keeps the dimensionality that it has in its part.

    Raises:
        InputError: without a part, or for one that is no matrix.
    """
    require(
        len(parts) > 0 and all(part.ndim == 2 for part in parts),
        "a tegum product takes one or more matrices. "
        f"Received shapes {[list(part.shape) for part in parts]}",
    )
    return torch.block_diag(*parts)
