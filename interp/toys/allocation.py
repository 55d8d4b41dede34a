"""How capacity should be allotted to features: the exact optimum for the quadratic toy.

Scherlis et al. (2022), Polysemanticity and Capacity in Neural Networks, see training as the
allotment of a limited sum of capacities C_i, at most d_hidden, to features whose losses fall as
their capacities grow. Their conditions for the optimum are those of any such problem: a feature
with 0 < C_i < 1 has the same marginal loss as all others like it; a feature that is ignored would
gain less by a first bit, one with C_i = 1 would lose more by giving up its last.

For the toy of `interp.toys.quadratic` all of this is a formula. As Σ_{j≠i} (W_i·W_j)² is
s² (1 - C) / C with s = W_i·W_i, the loss of a feature at its best norm,
s = (κ - 1) v C / (2 + (κ - 3) C), depends on its capacity alone:

    L(C)  = 2 (κ - 1) v² (1 - C) / (2 + (κ - 3) C)
    L'(C) = -2 (κ - 1)² v² / (2 + (κ - 3) C)² = -2 (s / C)²

L is convex for κ > 3, concave for κ < 3, and a line for κ = 3, that of normal features. So up to
κ = 3 the d_hidden largest v_i get all; beyond it capacity is spread, and the polysemantic features
share one level λ = s_i / C_i. That is what a single tight frame has, W Wᵀ = λ on the dimensions
that monosemantic features leave. Frames of any norms s_i ≤ λ that sum to λ d exist (Schur–Horn), so
the optimum over capacities is reached by weights, and no weights do better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import require, require_whole

_NORMAL = 3.0  # the kurtosis up to which capacity is not spread
_ROUNDING = 1e-9  # so near to it the level is lost in rounding, and losses are a line's


@dataclass(frozen=True)
class Allocation:
    """The best capacities of the quadratic toy.

    Attributes:
        capacity: C_i of each feature, 0 … 1.
        level: λ, by which every polysemantic feature has marginal loss -2 λ². NaN for a kurtosis of
            at most 3, where no feature has a part of a dimension; 0 where all have one each.
        loss: The sum of all features' losses: the least that any weights have.
    """

    capacity: Float[Tensor, "... feature"]
    level: Float[Tensor, "..."]
    loss: Float[Tensor, "..."]


def loss_at_capacity(
    capacity: Float[Tensor, "... feature"],
    coefficients: Float[Tensor, "... feature"],
    kurtosis: float | Float[Tensor, "..."],
) -> Float[Tensor, "... feature"]:
    """L(C) = 2 (κ - 1) v² (1 - C) / (2 + (κ - 3) C): a feature's least loss with this capacity.

    Args:
        capacity: In 0 … 1.
        coefficients: v, not negative.
        kurtosis: κ > 1, one of a model.

    Raises:
        InputError: If an argument is out of bounds.
    """
    excess, v = _checked(capacity, coefficients, kurtosis)
    return 2 * excess * v.square() * (1 - capacity) / (2 + (excess - 2) * capacity)


def marginal_loss(
    capacity: Float[Tensor, "... feature"],
    coefficients: Float[Tensor, "... feature"],
    kurtosis: float | Float[Tensor, "..."],
) -> Float[Tensor, "... feature"]:
    """L'(C) = -2 ((κ - 1) v / (2 + (κ - 3) C))²: what more capacity would change, negative.

    Args:
        capacity, coefficients, kurtosis: As in `loss_at_capacity`.

    Raises:
        InputError: As there.
    """
    excess, v = _checked(capacity, coefficients, kurtosis)
    return -2 * (excess * v / (2 + (excess - 2) * capacity)).square()


def optimal_allocation(
    coefficients: Float[Tensor, "... feature"],
    kurtosis: float | Float[Tensor, "..."],
    d_hidden: int,
) -> Allocation:
    """The capacities with the least loss, exactly.

    For κ > 3 they are C_i = ((κ - 1) v_i / λ - 2) / (κ - 3), cut off at 0 and 1, and λ is such that
    they sum to d_hidden. For κ ≤ 3 the d_hidden largest v_i get 1; of equal ones the first.

    Args:
        coefficients: v_i, not negative; those of 0 get nothing.
        kurtosis: κ > 1, one of a model.
        d_hidden: Dimensions to be allotted.

    Returns:
        Capacities, level and loss, in fp64.

    Raises:
        InputError: If an argument is out of bounds.
    """
    require_whole("d_hidden", d_hidden, 1)
    v = coefficients.double()
    excess, v = _checked(torch.zeros_like(v), v, kurtosis)
    shape = torch.broadcast_shapes(excess.shape, v.shape)
    excess, v = excess.expand(*shape[:-1], 1), v.expand(shape)
    order = v.argsort(dim=-1, descending=True, stable=True)
    rank = order.argsort(dim=-1)
    first = ((rank < d_hidden) & (v > 0)).double()
    spread = excess > _NORMAL - 1 + _ROUNDING
    curved = torch.where(spread, excess, 4.0)  # any that is: the others are not shared out
    enough = (v > 0).sum(-1, keepdim=True) <= d_hidden
    level = torch.where(enough, 0.0, _level(v, curved, d_hidden))
    shared = _capacity(v, curved, level)
    capacity = torch.where(spread, shared, first)
    level = torch.where(spread, level, torch.nan)
    loss = loss_at_capacity(capacity, v, excess.squeeze(-1) + 1).sum(-1)
    return Allocation(capacity, level.squeeze(-1), loss)


def _capacity(v: Tensor, excess: Tensor, level: Tensor) -> Tensor:
    """C_i at a level; all where the level is 0."""
    there = torch.where(level > 0, level, 1.0)
    found = ((excess * v / there - 2) / (excess - 2)).clamp(0, 1)
    return torch.where(level > 0, found, (v > 0).double())


def _level(v: Tensor, excess: Tensor, d_hidden: int) -> Tensor:
    """λ at which capacities sum to d_hidden.

    Their sum falls as λ grows, and is a + c / λ between knots: (κ - 1) v_i / 2, below which feature
    i has something, and v_i, below which it has all.
    """
    knots = torch.cat([excess * v / 2, v], -1).sort(-1).values
    sums = _capacity(v[..., None, :], excess[..., None], knots[..., None]).sum(-1)
    # The last knot with a sum of d_hidden or more begins the piece that holds the level.
    last = ((sums >= d_hidden).sum(-1, keepdim=True) - 1).clamp(min=0)
    low = knots.gather(-1, last)
    high = knots.gather(-1, (last + 1).clamp(max=knots.shape[-1] - 1))
    middle = (low + high) / 2
    whole = v >= middle
    part = (excess * v / 2 > middle) & ~whole
    top = excess * (v * part).sum(-1, keepdim=True)
    bottom = (excess - 2) * (d_hidden - whole.sum(-1, keepdim=True)) + 2 * part.sum(
        -1, keepdim=True
    )
    found = top / torch.where(bottom > 0, bottom, 1.0)
    return torch.where(part.any(-1, keepdim=True), found, low)


def _checked(
    capacity: Tensor, coefficients: Tensor, kurtosis: float | Tensor
) -> tuple[Tensor, Tensor]:
    """κ - 1 with an axis for features, and v."""
    require(
        coefficients.is_floating_point()
        and coefficients.ndim > 0
        and coefficients.shape[-1] > 0
        and capacity.shape[-1:] == coefficients.shape[-1:],
        "coefficients and capacities must be floating-point numbers, one of each for a feature. "
        f"Received shapes {list(coefficients.shape)} of {coefficients.dtype} and "
        f"{list(capacity.shape)}",
    )
    low, high = float(capacity.detach().min()), float(capacity.detach().max())
    require(low >= 0 and high <= 1, f"capacities must lie in 0 … 1. Received {low} … {high}")
    least, most = float(coefficients.detach().min()), float(coefficients.detach().max())
    require(
        least >= 0 and most < math.inf,
        f"coefficients must not be negative, and finite. Received {least} … {most}",
    )
    found = torch.as_tensor(kurtosis, dtype=coefficients.dtype, device=coefficients.device)
    require(
        bool(((found > 1) & found.isfinite()).all()),
        f"kurtosis must be above 1, and finite. Received {float(found.min())} … "
        f"{float(found.max())}",
    )
    return found[..., None] - 1, coefficients
