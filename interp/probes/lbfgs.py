"""L-BFGS on many smooth convex problems at once.

Liu & Nocedal 1989, "On the limited memory BFGS method for large scale optimization": the two-loop
recursion over the last pairs of steps and gradient differences. Problems share evaluations, and
nothing else: each has its own step length, and its own end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

Evaluate = Callable[
    [Float[Tensor, "site option x"], Int[Tensor, "site"]],
    tuple[
        Float[Tensor, "site option"], Float[Tensor, "site option x"], Float[Tensor, "site option"]
    ],
]

_ENOUGH = 1e-4  # of the descent that the slope promises: Armijo's condition
_ROUNDING = 1e-13  # of a value: what it may rise by rounding alone
_HALVINGS = 30


@dataclass(frozen=True)
class Minimum:
    """Where the search ended.

    Attributes:
        point: Of each problem.
        largest: The largest entry of the gradient there, as `evaluate` gives it.
        steps: How many were taken, by the problem that took most.
    """

    point: Float[Tensor, "site option x"]
    largest: Float[Tensor, "site option"]
    steps: int


def minimise(
    evaluate: Evaluate,
    start: Float[Tensor, "site option x"],
    tol: float,
    max_iter: int,
    memory: int = 10,
) -> Minimum:
    """Minimise one function for each site and option, until its gradient is small.

    Args:
        evaluate: Takes points of some sites (all of their options) and which sites these are; gives
            values, gradients and what is compared with `tol`.
        start: Where to start; steps of size 1 along the negative gradient should descend.
        tol: A problem has ended when what is compared is at most this.
        max_iter: How many steps to take.
        memory: How many pairs to keep.

    Returns:
        The points. Those that did not reach `tol` are there too: the caller looks at `largest`.
    """
    result = start.clone()
    reached = start.new_full(start.shape[:2], torch.inf)
    sites = torch.arange(start.shape[0], device=start.device)
    point = start
    value, gradient, largest = evaluate(point, sites)
    pairs: list[tuple[Tensor, Tensor, Tensor]] = []
    steps = 0
    while True:
        is_open = ~(largest <= tol)
        open_sites = is_open.any(1)
        n_open = int(open_sites.sum())
        if n_open == 0 or steps == max_iter:
            break
        if n_open <= 0.75 * sites.numel():  # go on with those alone that are not done
            done = ~open_sites
            result[sites[done]], reached[sites[done]] = point[done], largest[done]
            sites, point, value = sites[open_sites], point[open_sites], value[open_sites]
            gradient, largest = gradient[open_sites], largest[open_sites]
            pairs = [(s[open_sites], y[open_sites], r[open_sites]) for s, y, r in pairs]
            is_open = is_open[open_sites]
        direction = _direction(gradient, pairs)
        slope = (direction * gradient).sum(-1)
        # Rounding may turn a direction uphill at the very end: then down the gradient.
        uphill = slope >= 0
        direction = torch.where(uphill[..., None], -gradient, direction)
        slope = torch.where(uphill, -gradient.square().sum(-1), slope)
        size = is_open.to(point.dtype)
        for _ in range(_HALVINGS):
            trial = point + size[..., None] * direction
            new_value, new_gradient, new_largest = evaluate(trial, sites)
            limit = value + _ENOUGH * size * slope + _ROUNDING * value.abs()
            rose = ~(new_value <= limit) & is_open
            if not bool(rose.any()):
                break
            size = torch.where(rose, _shorter(size, value, slope, new_value), size)
        else:
            break  # no step descends any more: what is left is rounding
        step, change = trial - point, new_gradient - gradient
        curvature = (step * change).sum(-1)
        useful = curvature > 1e-14 * (step.norm(dim=-1) * change.norm(dim=-1))
        inverse = torch.where(useful & is_open, 1 / curvature, 0.0)
        pairs = [*pairs, (step, change, inverse)][-memory:]
        keep = is_open[..., None]
        point, gradient = torch.where(keep, trial, point), torch.where(keep, new_gradient, gradient)
        value = torch.where(is_open, new_value, value)
        largest = torch.where(is_open, new_largest, largest)
        steps += 1
    result[sites], reached[sites] = point, largest
    return Minimum(result, reached, steps)


def _direction(gradient: Tensor, pairs: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """The two-loop recursion. A pair with the inverse curvature 0 changes nothing."""
    direction = -gradient
    scale = torch.ones_like(gradient[..., 0])
    amounts = []
    for step, change, inverse in reversed(pairs):
        amount = inverse * (step * direction).sum(-1)
        amounts.append(amount)
        direction = direction - amount[..., None] * change
    for _, change, inverse in pairs:  # the last useful one counts
        made = 1 / (inverse * change.square().sum(-1))
        scale = torch.where(inverse > 0, made, scale)
    direction = scale[..., None] * direction
    for (step, change, inverse), amount in zip(pairs, reversed(amounts), strict=True):
        beta = inverse * (change * direction).sum(-1)
        direction = direction + (amount - beta)[..., None] * step
    return direction


def _shorter(size: Tensor, value: Tensor, slope: Tensor, new_value: Tensor) -> Tensor:
    """Where the parabola through both values and the slope is least, between 0.1 and 0.5 of it."""
    least = -slope * size.square() / (2 * (new_value - value - slope * size))
    return torch.where(least.isfinite(), least, 0.0).clamp(0.1 * size, 0.5 * size)
