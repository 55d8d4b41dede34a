"""Features in two hidden dimensions: their angles, and one way to lay models beside one another."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import require
from interp.toys.measures import are_represented, feature_norms


def angular_gaps(
    W: Float[Tensor, "... 2 feature"], represented: float = 0.25
) -> Float[Tensor, "... feature"]:
    """How far it is from each feature to the next one counterclockwise, in degrees.

    Only features count whose norm is at least `represented` times the largest one's; the others
    have NaN. Gaps of a model sum to 360.

    Raises:
        InputError: for another hidden size or a `represented` out of bounds.
    """
    there = _is_there(W, represented)
    angle = _angles(W)
    turn = (angle.unsqueeze(-2) - angle.unsqueeze(-1)).remainder(2 * math.pi)  # [... from, to]
    n_features = W.shape[-1]
    index = torch.arange(n_features, device=W.device)
    # Of two in one direction the one of the higher index comes later, by a gap of 0; the first of
    # them, and a feature from itself, a full turn.
    full = (turn == 0) & (index <= index[:, None])
    turn = torch.where(full, turn + 2 * math.pi, turn)
    gap = turn.masked_fill(~there.unsqueeze(-2), torch.inf).amin(-1)
    return gap.rad2deg().masked_fill(~there, torch.nan)


def laid_beside(
    W: Float[Tensor, "... 2 feature"], feature: int = 0, represented: float = 0.25
) -> Float[Tensor, "... 2 feature"]:
    """Models rotated, and their other features renumbered, so that they can be compared.

    A loss without preferred directions cannot tell rotations and reflections apart, nor features
    that are alike. Here the chosen feature points along the first axis and the others follow
    counterclockwise, the longer of its two neighbours first. If it is not represented, the others
    are turned so that it would point midway between two of them, in the widest gap.

    Args:
        W: The directions.
        feature: The chosen one; it comes first.
        represented: The part of the largest norm from which a feature has a direction of its own.

    Returns:
        W of the same shape: the chosen feature, then the others by angle.

    Raises:
        InputError: for another hidden size, a feature that is not there, or a `represented` out of
            bounds.
    """
    n_features = W.shape[-1]
    require(0 <= feature < n_features, f"feature must be one of {n_features}. Received {feature}")
    there = _is_there(W, represented)
    angle, norm = _angles(W), feature_norms(W)
    gaps = angular_gaps(W, represented)
    widest = gaps.nan_to_num(nan=-1.0).argmax(-1, keepdim=True)
    between = angle.gather(-1, widest) + 0.5 * gaps.gather(-1, widest).nan_to_num().deg2rad()
    zero = torch.where(there[..., feature, None], angle[..., feature, None], between)
    others = [i for i in range(n_features) if i != feature]
    turn = (angle - zero)[..., others].remainder(2 * math.pi)
    rest = norm[..., others]
    turn, order = turn.sort(-1)
    rest = rest.gather(-1, order)
    mirrored = (rest[..., -1] > rest[..., 0]).unsqueeze(-1)
    turn = torch.where(mirrored, (2 * math.pi - turn).flip(-1), turn)
    rest = torch.where(mirrored, rest.flip(-1), rest)
    own = (angle[..., feature, None] - zero) * torch.where(mirrored, -1.0, 1.0)
    turn = torch.cat([own, turn], -1)
    rest = torch.cat([norm[..., feature, None], rest], -1)
    return torch.stack([rest * turn.cos(), rest * turn.sin()], -2)


def _angles(W: Tensor) -> Tensor:
    return torch.atan2(W[..., 1, :], W[..., 0, :])


def _is_there(W: Tensor, represented: float) -> Tensor:
    require(
        W.ndim >= 2 and W.shape[-2] == 2,
        f"W must be [..., 2, feature]. Received shape {list(W.shape)}",
    )
    return are_represented(feature_norms(W), represented)
