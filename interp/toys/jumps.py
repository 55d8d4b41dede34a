"""Jumps of features between dimensionalities over training.

Elhage et al. 2022, "Superposition and Learning Dynamics", Discrete "Energy Level" Jumps: a
feature's dimensionality stays for long, then changes at once, and the loss drops as it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import require, require_number


@dataclass(frozen=True)
class Jump:
    """One feature's change from one dimensionality to another.

    Attributes:
        feature: Which one.
        first, last: The snapshots between which it moves.
        before, after: Its dimensionality at these.
    """

    feature: int
    first: int
    last: int
    before: float
    after: float


def find_jumps(
    dimensionality: Float[Tensor, "snapshot feature"], least: float = 0.1, moving: float = 0.01
) -> list[Jump]:
    """All jumps of one model, by their first snapshot.

    A jump is a longest run of intervals between snapshots in each of which D_i moves by at least
    `moving`, always in one direction, and by at least `least` in all. What counts as moving thus
    depends on how far snapshots are apart.

    Args:
        dimensionality: D_i at each snapshot, in order.
        least: Of a jump.
        moving: Of each of its intervals.

    Raises:
        InputError: for another number of axes, what is not finite, or an argument that is not
            positive.
    """
    require(
        dimensionality.ndim == 2,
        f"dimensionality must be [snapshot, feature]. Received {list(dimensionality.shape)}",
    )
    require(
        bool(dimensionality.isfinite().all()),
        "dimensionality must be finite. Received "
        f"{int((~dimensionality.isfinite()).sum())} that are not",
    )
    require_number("least", least)
    require_number("moving", moving)
    D = dimensionality.detach().double().cpu()
    change = D[1:] - D[:-1]
    direction = (torch.sign(change) * (change.abs() >= moving)).int().T.tolist()
    found = []
    for feature, signs in enumerate(direction):
        for first, last in _runs(signs):
            before, after = float(D[first, feature]), float(D[last, feature])
            if abs(after - before) >= least:
                found.append(Jump(feature, first, last, before, after))
    return sorted(found, key=lambda jump: (jump.first, jump.last, jump.feature))


def _runs(signs: Sequence[int]) -> list[tuple[int, int]]:
    """Where a sign other than 0 begins and where it ends, as places between intervals."""
    runs = []
    start = 0
    for place in range(1, len(signs) + 1):
        if place == len(signs) or signs[place] != signs[start]:
            if signs[start] != 0:
                runs.append((start, place))
            start = place
    return runs


def moving_intervals(jumps: Sequence[Jump], n_intervals: int) -> Bool[Tensor, "interval"]:
    """Whether some feature jumps in each interval between snapshots.

    Raises:
        InputError: for a jump that ends after the last interval.
    """
    last = max((jump.last for jump in jumps), default=0)
    require(
        last <= n_intervals,
        f"n_intervals must be at least where a jump ends ({last}). Received {n_intervals}",
    )
    inside = torch.zeros(n_intervals, dtype=torch.bool)
    for jump in jumps:
        inside[jump.first : jump.last] = True
    return inside
