"""Features that come in groups: where a model puts those that occur together, or never do.

Elhage et al. (2022), Toy Models of Superposition, “The Geometry of Superposition”, Correlated and
anticorrelated features. As in `SparseFeatures`, features 0 … k - 1 are the first group, and so on.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import require, require_whole
from interp.toys.measures import feature_norms


def angles_within_groups(
    W: Float[Tensor, "... d_hidden feature"], group_size: int
) -> Float[Tensor, "... group pair"]:
    """Degrees between the features of a group: pairs (0, 1), (0, 2), …, (1, 2), … of each.

    NaN where one of them is a column of zeros.

    Raises:
        InputError: If the features do not make whole groups of two or more.
    """
    grouped = _grouped(W, group_size)  # [... d_hidden group member]
    norms = feature_norms(W).unflatten(-1, (-1, group_size))
    products = torch.einsum("...dgi,...dgj->...gij", grouped, grouped)
    cosines = products / (norms.unsqueeze(-1) * norms.unsqueeze(-2))
    first, second = torch.triu_indices(group_size, group_size, 1, device=W.device)
    return cosines[..., first, second].clamp(-1, 1).acos().rad2deg()


def principal_share(
    W: Float[Tensor, "... d_hidden feature"], group_size: int
) -> Float[Tensor, "..."]:
    """How much of W is spent on the sums of groups: Σ_g ‖Σ_{i∈g} W_i‖² / (k ‖W‖²_F).

    The sum of a group's features is the first principal component of features that occur together
    with equal variances. 1 where all features of a group have one direction and length, 1/k where
    they are orthogonal, 0 for antipodal pairs. NaN for a W of zeros.

    Raises:
        InputError: If the features do not make whole groups of two or more.
    """
    sums = _grouped(W, group_size).sum(-1)
    return sums.square().sum((-2, -1)) / (group_size * W.square().sum((-2, -1)))


def group_interference(
    W: Float[Tensor, "... d_hidden feature"], group_size: int
) -> tuple[Float[Tensor, "... feature"], Float[Tensor, "... feature"]]:
    """Σ_j (Ŵ_i·W_j)² over the others of a feature's group, and over all of other groups.

    The two sum to `superposition`. Columns of zeros have 0.

    Raises:
        InputError: If the features do not make whole groups of two or more.
    """
    grouped = _grouped(W, group_size)
    norms = feature_norms(W)
    unit = W / torch.where(norms > 0, norms, 1.0).unsqueeze(-2)
    own = unit.unflatten(-1, (-1, group_size))
    inside = torch.einsum("...dgi,...dgj->...gij", own, grouped).square()
    inside = inside - torch.diag_embed(inside.diagonal(dim1=-2, dim2=-1))
    within = inside.sum(-1).flatten(-2)
    every = (unit.mT @ W).square()
    outside = torch.block_diag(
        *[torch.ones(group_size, group_size, device=W.device)] * own.shape[-2]
    )
    between = every.masked_fill(outside.bool(), 0.0).sum(-1)
    return within, between


def group_covariance(
    density: float, correlation: float, group_size: int, n_features: int
) -> Float[Tensor, "feature feature"]:
    """The covariance of `SparseFeatures` of one density with uniform values, in fp64.

    A feature has variance p/3 - p²/4. Two of one group are both there with probability
    c p + (1 - c) p² for c >= 0 and (1 + c) p² for c < 0, which makes their covariance
    c (p - p²) / 4 or c p² / 4; values are independent.

    Raises:
        InputError: If a value is out of bounds or the features do not make whole groups.
    """
    require_whole("n_features", n_features, 1)
    require(0 <= density <= 1, f"density must lie in 0 … 1. Received {density}")
    require(-1 <= correlation <= 1, f"correlation must lie in -1 … 1. Received {correlation}")
    _check(n_features, group_size)
    p, c = density, correlation
    covariance = c * ((p - p * p) if c >= 0 else p * p) / 4
    block = torch.full((group_size, group_size), covariance, dtype=torch.float64)
    block.fill_diagonal_(p / 3 - p * p / 4)
    return torch.block_diag(*[block] * (n_features // group_size))


def _grouped(W: Tensor, group_size: int) -> Float[Tensor, "... d_hidden group member"]:
    require(W.ndim >= 2, f"W must be [… d_hidden, feature]. Received shape {list(W.shape)}")
    _check(W.shape[-1], group_size)
    return W.unflatten(-1, (-1, group_size))


def _check(n_features: int, group_size: int) -> None:
    require_whole("group_size", group_size, 2)
    require(
        n_features % group_size == 0,
        f"n_features must be a multiple of group_size ({group_size}). Received {n_features}",
    )
