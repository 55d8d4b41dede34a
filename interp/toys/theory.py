"""What an "extra" feature should become, by the exact loss: the theory of the phase diagrams.

Elhage et al. 2022, "Superposition as a phase change": n = 2 features in m = 1 dimension, or n = 3
in m = 2. All have one density; all but the last, the extra one, have importance 1. The extra
feature is not represented, or superposed with others, or has a dimension dedicated to it. The paper
compares the losses of one W for each fate; here a fate is a set of W, and its loss the least in
that set, over norms and biases. The least of all fates is the least of all models of these parts:

- a feature with a dimension to itself, which costs nothing (W = 1, b = 0);
- two features at the two ends of one dimension, the ratio of whose norms decides which of them are
  represented (one that is not at all costs I (p/3 - p²/4), with its mean as the bias);
- for n = 3, all three in a plane, of which the first two are mirror images: a triangle, the best
  only where the extra feature is about as important as the others and all are dense. It may be so
  flat, or so steep, that the extra feature is not represented, or all but alone.

For n = 2 `minimise_exactly`, which knows of no parts, finds nothing better. For n = 3 it does,
near the boundaries of dense features of about equal importance, where the first two are no mirror
images: by up to 0.1 % of the loss, with the same fate (the tests say where it looked).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import require, require_number, require_whole
from interp.toys.exact_loss import exact_loss
from interp.toys.exact_minimum import descend
from interp.toys.measures import feature_norms, superposition

Region = Literal["not represented", "superposed", "dedicated"]
REGIONS: tuple[Region, ...] = ("not represented", "superposed", "dedicated")
"""The fates of the extra feature, in the order of their numbers."""

_NOT_REPRESENTED, _SUPERPOSED, _DEDICATED = range(3)
_TRIANGLES = math.log(2.0) + 1e-9  # tried at relative importances of 1/2 … 2: none is best beyond

_Model = tuple[Tensor, Tensor]  # W [site, d_hidden, feature] and b [site, feature]


@dataclass(frozen=True)
class MinimumLossRegions:
    """Which fate of the extra feature has the least loss, over a grid.

    Attributes:
        densities, relative_importances: The grid.
        candidates: What each kind of solution is.
        candidate_regions: The fate it stands for, an index of `REGIONS`.
        losses: The least exact loss of each kind (sum over features); infinite where it was not
            tried or has no minimum of its own.
        region: The fate with the least loss.
        margin: By how much the best solution with another fate is worse.
        relative_margin: The margin as a part of that other solution's loss, 0 … 1: small beside
            a boundary.
        W, b: The best solution.
    """

    densities: Float[Tensor, "density"]
    relative_importances: Float[Tensor, "importance"]
    candidates: tuple[str, ...]
    candidate_regions: tuple[int, ...]
    losses: Float[Tensor, "candidate density importance"]
    region: Int[Tensor, "density importance"]
    margin: Float[Tensor, "density importance"]
    relative_margin: Float[Tensor, "density importance"]
    W: Float[Tensor, "density importance d_hidden feature"]
    b: Float[Tensor, "density importance feature"]


def minimum_loss_regions(
    densities: Sequence[float] | Float[Tensor, "density"],
    relative_importances: Sequence[float] | Float[Tensor, "importance"],
    n_features: int = 2,
    d_hidden: int = 1,
    represented: float = 0.5,
    device: torch.device | str = "cpu",
) -> MinimumLossRegions:
    """The best fate of the extra feature at each density and relative importance.

    Args:
        densities: 1 - S, above 0 and at most 1.
        relative_importances: Of the extra feature; the others' is 1.
        n_features: 2 or 3.
        d_hidden: One less.
        represented: Of two features in one dimension, the ratio of their norms from which the
            smaller one counts, as in `classify`.
        device: Where it is computed, in fp64.

    Returns:
        Regions and the losses of all candidates, in fp64.

    Raises:
        InputError: for another size, an empty grid, or values out of bounds.
    """
    require(
        (n_features, d_hidden) in ((2, 1), (3, 2)),
        "the theory is of 2 features in 1 dimension and of 3 in 2. "
        f"Received {n_features} in {d_hidden}",
    )
    _check_ratio(represented)
    p = _grid("densities", densities, device, most=1.0)
    extra = _grid("relative_importances", relative_importances, device)
    density, importance = (x.flatten() for x in torch.meshgrid(p, extra, indexing="ij"))
    pairs = _pairs(p, extra, represented)
    if n_features == 2:
        names = tuple(f"extra feature {region}" for region in REGIONS)
        fates: tuple[int, ...] = (_NOT_REPRESENTED, _SUPERPOSED, _DEDICATED)
        models = pairs
    else:
        names = (
            "extra feature not represented",
            "extra feature superposed with one other",
            "extra feature dedicated, one other not represented",
            "extra feature dedicated, the others superposed",
            *(f"all three in a plane, extra feature {region}" for region in REGIONS),
        )
        fates = (_NOT_REPRESENTED, _SUPERPOSED, _DEDICATED, _DEDICATED, *range(3))
        equal = _best(_pairs(p, p.new_ones(1), represented), p)
        models = [*map(_beside_another, pairs), _others_paired(equal, len(extra))]
        plane, is_tried = _plane(p, density, importance, equal)
        models += [plane] * 3
    ones = p.new_ones(len(density), n_features - 1)
    importances = torch.cat([ones, importance[:, None]], -1)
    losses = torch.stack([exact_loss(W, b, density[:, None], importances) for W, b in models])
    if n_features == 3:  # of one fate each; none where it was not tried
        fate = classify(plane[0], represented=represented).where(is_tried, -1)
        for region in range(3):
            losses[4 + region].masked_fill_(fate != region, torch.inf)
    of_fate = [losses[[k for k, one in enumerate(fates) if one == fate]] for fate in range(3)]
    least, order = torch.stack([some.amin(0) for some in of_fate]).sort(0)
    best, sites = losses.argmin(0), torch.arange(len(density), device=p.device)
    grid = (len(p), len(extra))
    margin = least[1] - least[0]
    return MinimumLossRegions(
        densities=p,
        relative_importances=extra,
        candidates=names,
        candidate_regions=fates,
        losses=losses.unflatten(1, grid),
        region=order[0].unflatten(0, grid),
        margin=margin.unflatten(0, grid),
        relative_margin=(margin / least[1]).unflatten(0, grid),
        W=torch.stack([W for W, _ in models])[best, sites].unflatten(0, grid),
        b=torch.stack([b for _, b in models])[best, sites].unflatten(0, grid),
    )


def classify(
    W: Float[Tensor, "... d_hidden feature"], feature: int = -1, represented: float = 0.5
) -> Int[Tensor, "..."]:
    """Which fate one feature has in a trained model: an index of `REGIONS`.

    Not represented: its norm is below `represented` times the largest of all features. Dedicated:
    what the others write onto its direction, in root sum of squares √(Σ_{j≠i} (Ŵ_i·W_j)²), is below
    `represented` times its norm (its dimensionality is above 1 / (1 + represented²), 0.8 by
    default). Superposed: the rest. Of two features in one dimension each rule is the other's
    mirror image.

    Args:
        W: The directions.
        feature: Which one; the last by default.
        represented: Above 0, below 1.

    Raises:
        InputError: for a W that is not finite, a feature that is not there or another
            `represented`.
    """
    _check_ratio(represented)
    require(bool(W.isfinite().all()), "W must be finite numbers. Received others")
    norms = feature_norms(W)
    n_features = W.shape[-1]
    require(
        isinstance(feature, int) and -n_features <= feature < n_features,
        f"feature must be one of {n_features}. Received {feature!r}",
    )
    own = norms[..., feature]
    # Not ≥ but >, so that a model of zeros represents nothing.
    is_there = own > represented * norms.amax(-1)
    is_alone = superposition(W)[..., feature] < (represented * own).square()
    fate = torch.where(is_alone, _DEDICATED, _SUPERPOSED)
    return torch.where(is_there, fate, _NOT_REPRESENTED)


@dataclass(frozen=True)
class LinearMinimum:
    """The best linear model.

    Attributes:
        features: Those that it represents, each with a dimension of its own, best first.
        loss: What is left: the importance times variance of all the others.
    """

    features: Int[Tensor, "... represented"]
    loss: Float[Tensor, "..."]


def linear_minimum(
    importance: Float[Tensor, "... feature"],
    variance: Float[Tensor, "... #feature"],
    d_hidden: int,
) -> LinearMinimum:
    """What x' = WᵀW x + b does best with uncorrelated features: the top ones, no superposition.

    With the mean taken care of by b, the loss is ‖√I (1 - WᵀW) √Σ‖²_F. No matrix of rank d_hidden
    comes nearer to the diagonal √(I Σ) than its d_hidden largest entries (Eckart and Young 1936),
    and the projection onto their features, which is a WᵀW, does.

    Args:
        importance: I_i.
        variance: Of each feature (`feature_variance(density)`).
        d_hidden: Rows of W.

    Raises:
        InputError: for a d_hidden that is not a whole number of at least 1.
    """
    require_whole("d_hidden", d_hidden, 1)
    ordered = (importance * variance).sort(dim=-1, descending=True, stable=True)
    return LinearMinimum(ordered.indices[..., :d_hidden], ordered.values[..., d_hidden:].sum(-1))


def principal_components_loss(
    covariance: Float[Tensor, "... feature feature"], d_hidden: int
) -> Float[Tensor, "..."]:
    """The least loss of x' = WᵀW x + b with correlated features of importance 1.

    The sum of the covariance's smaller eigenvalues: W's rows span its d_hidden first principal
    components.

    Raises:
        InputError: for a d_hidden that is not a whole number of at least 1.
    """
    require_whole("d_hidden", d_hidden, 1)
    eigenvalues = torch.linalg.eigvalsh(covariance)  # from the least
    return eigenvalues[..., : max(0, covariance.shape[-1] - d_hidden)].clamp_min(0.0).sum(-1)


def _pairs(p: Tensor, extra: Tensor, represented: float) -> list[_Model]:
    """The best pair for each fate of its second feature, over the grid.

    Importances (1, I) make the mirror image of (1, 1/I): on a grid that is symmetric about 1, as
    the paper's is, half of them are enough.
    """
    folded, level = extra.log().abs().mul(1e9).round().unique(return_inverse=True)
    density, importance = torch.meshgrid(p, (folded * 1e-9).exp(), indexing="ij")
    found = [_pair(density.flatten(), importance.flatten(), fate, represented) for fate in range(3)]
    models = []
    for fate in range(3):
        here, mirrored = (
            [x.unflatten(0, density.shape)[:, level].flatten(0, 1) for x in found[one]]
            for one in (fate, 2 - fate)
        )
        is_less = (extra < 1).repeat(len(p))
        W = torch.where(is_less[:, None, None], mirrored[0].flip(-1), here[0])
        models.append((W, torch.where(is_less[:, None], mirrored[1].flip(-1), here[1])))
    return models


def _pair(density: Tensor, importance: Tensor, fate: int, represented: float) -> _Model:
    """The best of two features at the ends of a dimension whose second one has this fate."""
    limit, right = math.atan(represented), math.pi / 2
    low, high = ((0.0, limit), (limit, right - limit), (right - limit, right))[fate]

    def unpack(x: Tensor) -> _Model:
        size, phase, first, second = x.unbind(-1)
        angle = low + (high - low) * 0.5 * (1 - phase.cos())  # stays between, ends included
        W = torch.stack([size * angle.cos(), -size * angle.sin()], -1)
        return W.unsqueeze(-2), torch.stack([first, second], -1)

    mean = density / 2
    one, zero = torch.ones_like(mean), torch.zeros_like(mean)
    # An absent feature's bias begins at its mean.
    first = mean if fate == _DEDICATED else zero
    second = mean if fate == _NOT_REPRESENTED else zero
    starts = [torch.stack([one, x * one, first, second], -1) for x in (0.6, math.pi - 0.6)]
    importances = torch.stack([one, importance], -1)
    found = descend(unpack, torch.stack(starts, 1), density, importances)
    return found.W, found.b


def _best(models: list[_Model], density: Tensor) -> _Model:
    """The model with the least loss at each site, all importances being 1."""
    losses = torch.stack([exact_loss(W, b, density[:, None]) for W, b in models])
    best, sites = losses.argmin(0), torch.arange(len(density), device=density.device)
    W, b = (torch.stack(tensors)[best, sites] for tensors in zip(*models, strict=True))
    return W, b


def _beside_another(pair: _Model) -> _Model:
    """The second of three features and the extra one as a pair; the first has its own dimension."""
    W, b = pair
    joined = W.new_zeros(len(W), 2, 3)
    joined[:, 0, 0] = 1.0
    joined[:, 1, 1:] = W[:, 0]
    return joined, torch.cat([torch.zeros_like(b[:, :1]), b], -1)


def _others_paired(pair: _Model, n_importances: int) -> _Model:
    """The first two of three features as a pair; the extra one has its own dimension."""
    W, b = (x.repeat_interleave(n_importances, 0) for x in pair)
    joined = W.new_zeros(len(W), 2, 3)
    joined[:, 0, :2] = W[:, 0]
    joined[:, 1, 2] = 1.0
    return joined, torch.cat([b, torch.zeros_like(b[:, :1])], -1)


def _plane(
    p: Tensor, density: Tensor, importance: Tensor, equal: _Model
) -> tuple[_Model, Bool[Tensor, "site"]]:
    """Three features in a plane, descended to from a triangle, and where that was tried.

    Tried at densities where, all importances being 1, a triangle is better than a pair (`equal`)
    and a feature alone: another importance of the third feature only helps the pairs.
    """
    triangles = descend(_mirrored, _triangles(p), p, p.new_ones(len(p), 3))
    better = triangles.loss < exact_loss(*equal, p[:, None])
    tried = torch.isin(density, p[better]) & (importance.log().abs() <= _TRIANGLES)
    W, b = density.new_zeros(len(density), 2, 3), density.new_zeros(len(density), 3)
    if bool(tried.any()):
        importances = density.new_ones(int(tried.sum()), 3)
        importances[:, 2] = importance[tried]
        found = descend(_mirrored, _triangles(density[tried]), density[tried], importances)
        W[tried], b[tried] = found.W, found.b
    return (W, b), tried


def _triangles(density: Tensor) -> Tensor:
    """Where `_mirrored` is an equilateral triangle, `[site, 1, x]`."""
    one, bias = torch.ones_like(density), 0.2 * density.square()
    return torch.stack([0.75**0.5 * one, 0.5 * one, one, bias, bias], -1).unsqueeze(1)


def _mirrored(x: Tensor) -> _Model:
    """Three features in a plane, the first two of them mirror images."""
    across, along, length, both, last = x.unbind(-1)
    rows = [[across, -across, torch.zeros_like(across)], [-along, -along, length]]
    W = torch.stack([torch.stack(row, -1) for row in rows], -2)
    return W, torch.stack([both, both, last], -1)


def _grid(
    name: str,
    values: Sequence[float] | Tensor,
    device: torch.device | str,
    most: float = math.inf,
) -> Tensor:
    grid = torch.as_tensor(values, dtype=torch.float64, device=device)
    fits = grid.ndim == 1 and len(grid) > 0
    rule = "positive" if most == math.inf else f"above 0 and at most {most:g}"
    require(
        fits and bool(((grid > 0) & (grid <= most) & grid.isfinite()).all()),
        f"{name} must be one or more numbers, {rule}. Received {grid.tolist()}",
    )
    return grid


def _check_ratio(represented: float) -> None:
    require_number("represented", represented)
    require(represented < 1, f"represented must be below 1. Received {represented}")
