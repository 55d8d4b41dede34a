"""The two solutions for five features in two dimensions, followed as one feature changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.probes.lbfgs import minimise
from interp.toys.geometry import recognise_each
from interp.toys.planar import angular_gaps
from interp.toys.polytopes import digon, pentagon, tegum_product
from interp.toys.quadrature import Quadrature, expected_loss

N_FEATURES, D_HIDDEN = 5, 2
VARIED = 0
STARTS = ("pentagon", "digons")
TOLERANCE = 10.0  # degrees: of a digon's angle, and of where it stands to the other one
WIDEST, NARROWEST = 130.0, 35.0  # degrees between neighbours of a stretched pentagon
_NUDGE = 0.02  # of the absent feature's norm, that a descent may leave 0 if 0 is no minimum
_LEAST_GRADIENT, _STEPS = 1e-7, 400
_ROUNDS = 40
_EQUAL = 1e-8  # of the loss: losses that differ by less are equal
REPRESENTED = 0.5  # of the longest: in a pentagon the varied feature is about as long as the others


@dataclass(frozen=True)
class Setting:
    """What is varied, and how losses are measured.

    Attributes:
        vary: What of the first feature differs.
        density: Of the others; their importance is 1.
        relative: The first feature's value, as a multiple of theirs.
        quadrature: Points that stand for the inputs.
    """

    vary: Literal["density", "importance"]
    density: float
    relative: Float[Tensor, "value"]
    quadrature: Quadrature

    def of_features(
        self, relative: Float[Tensor, "value"]
    ) -> tuple[Float[Tensor, "value feature"], Float[Tensor, "value feature"]]:
        """The density and the importance of each feature."""
        density = torch.full((len(relative), N_FEATURES), self.density, dtype=torch.float64)
        importance = torch.ones_like(density)
        varied = density if self.vary == "density" else importance
        varied[:, VARIED] *= relative
        return density, importance


@dataclass(frozen=True)
class Branches:
    """Where descents from both starts ended, at each value.

    Attributes:
        W, b: The solutions, from `STARTS`.
        loss: Their expected loss, a mean over features.
        slope: How fast the loss changes with the relative value, at fixed W and b; of a stationary
            solution also as it follows (the envelope theorem).
        gradient: The largest entry of the gradient that is left.
        kinds: What each solution is.
    """

    W: Float[Tensor, "value start 2 feature"]
    b: Float[Tensor, "value start feature"]
    loss: Float[Tensor, "value start"]
    slope: Float[Tensor, "value start"]
    gradient: Float[Tensor, "value start"]
    kinds: list[list[str]]

    def persists(self, value: int) -> bool:
        """Whether each start ended in its own solution."""
        return tuple(self.kinds[value]) == STARTS


@dataclass(frozen=True)
class Transition:
    """Where the losses of both solutions cross.

    Attributes:
        relative: The value.
        branches: Both solutions there: one value.
    """

    relative: float
    branches: Branches


def kind_of(W: Float[Tensor, "instance 2 feature"]) -> list[str]:
    """`pentagon`, `digons` of the four features that are not varied, or what else there is."""
    gaps = angular_gaps(W, REPRESENTED)
    is_ring = ((gaps < WIDEST) & (gaps > NARROWEST)).all(-1).tolist()
    kinds = []
    for ring, found in zip(is_ring, recognise_each(W, TOLERANCE, REPRESENTED), strict=True):
        if ring:
            kinds.append("pentagon")
        elif found.solid == "square":
            without = "" if found.absent == (VARIED,) else ", another feature absent"
            kinds.append(f"digons{without}")
        else:
            kinds.append("other")
    return kinds


def follow(setting: Setting) -> Branches:
    """Descend from a regular pentagon and from two digons at every value."""
    return _descend(setting, setting.relative, _starts().expand(len(setting.relative), -1, -1))


def transition(setting: Setting, branches: Branches) -> Transition | None:
    """Where the two losses cross; None if they do not between two values that follow one another.

    Both solutions must be there at these two.
    """
    gap = branches.loss[:, 0] - branches.loss[:, 1]
    both = [i for i in range(len(gap)) if branches.persists(i)]
    for low, high in pairwise(both):
        if high == low + 1 and gap[low] > 0 >= gap[high]:
            return _crossing(setting, branches, low, high)
    return None


def _crossing(setting: Setting, branches: Branches, low: int, high: int) -> Transition | None:
    """The Illinois rule in the logarithm, each descent from the solutions at the upper end.

    Regula falsi, but that the gap of an end that stays twice is halved: without it a curved gap
    keeps one end for good, and the other creeps.
    """
    ends = [float(setting.relative[i].log()) for i in (low, high)]
    gaps = [float(branches.loss[i, 0] - branches.loss[i, 1]) for i in (low, high)]
    start = _packed(branches.W[high], branches.b[high])[None]
    kept: int | None = None
    for _ in range(_ROUNDS):
        at = ends[0] + (ends[1] - ends[0]) * gaps[0] / (gaps[0] - gaps[1])
        relative = torch.tensor([at], dtype=torch.float64).exp()
        one = _descend(setting, relative, start)
        if not one.persists(0):
            return None
        gap = float(one.loss[0, 0] - one.loss[0, 1])
        if abs(gap) <= _EQUAL * float(one.loss[0, 0]):
            return Transition(float(relative), one)
        side = 0 if gap > 0 else 1
        ends[side], gaps[side] = at, gap
        if kept == 1 - side:
            gaps[kept] *= 0.5
        kept = 1 - side
    return None


def _starts() -> Float[Tensor, "start x"]:
    square = tegum_product(digon(), digon())
    absent = torch.full((D_HIDDEN, 1), _NUDGE, dtype=torch.float64)
    W = torch.stack([pentagon(), torch.cat([absent, square], 1)])
    return _packed(W, torch.zeros(len(W), N_FEATURES, dtype=torch.float64))


def _packed(W: Tensor, b: Tensor) -> Tensor:
    return torch.cat([W.flatten(-2), b], -1)


def _unpacked(x: Tensor) -> tuple[Tensor, Tensor]:
    W, b = x.split([D_HIDDEN * N_FEATURES, N_FEATURES], -1)
    return W.unflatten(-1, (D_HIDDEN, N_FEATURES)), b


def _descend(
    setting: Setting, relative: Float[Tensor, "value"], start: Float[Tensor, "value start x"]
) -> Branches:
    density, importance = setting.of_features(relative)
    weights = setting.quadrature.weights(density)[:, None]

    def losses(x: Tensor, sites: Int[Tensor, "site"]) -> Tensor:
        W, b = _unpacked(x)
        some = weights[sites], importance[sites, None]
        return expected_loss(W, b, *some, setting.quadrature) / N_FEATURES

    def evaluate(
        x: Float[Tensor, "site start x"], sites: Int[Tensor, "site"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            loss = losses(x, sites)
            (gradient,) = torch.autograd.grad(loss.sum(), x)
        return loss.detach(), gradient, gradient.abs().amax(-1)

    ended = minimise(evaluate, start.contiguous(), _LEAST_GRADIENT, _STEPS)
    everywhere = torch.arange(len(relative))
    W, b = _unpacked(ended.point)
    kinds = kind_of(W.flatten(0, 1))
    return Branches(
        W=W,
        b=b,
        loss=losses(ended.point, everywhere),
        slope=_slope(setting, relative, W, b),
        gradient=ended.largest,
        kinds=_rows(kinds, W.shape[1]),
    )


def _slope(
    setting: Setting, relative: Tensor, W: Tensor, b: Tensor
) -> Float[Tensor, "value start"]:
    """The derivative by the relative value: the loss is linear in it, W and b held fixed."""
    ends = []
    for value in (0.5 * relative, relative):
        density, importance = setting.of_features(value)
        weights = setting.quadrature.weights(density)[:, None]
        loss = expected_loss(W, b, weights, importance[:, None], setting.quadrature)
        ends.append(loss / N_FEATURES)
    return (ends[1] - ends[0]) / (0.5 * relative)[:, None]


def _rows(flat: Sequence[str], width: int) -> list[list[str]]:
    return [list(flat[i : i + width]) for i in range(0, len(flat), width)]
