"""Fewer cases with nearly the same evidence: every combination of some axes, not of all at once.

A fault mostly shows where two settings meet. `covering` gives cases in which any two values (or any
`strength` of them) of different axes meet at least once. With the environment variable
`INTERP_EXHAUSTIVE=1` the sweeps that use it run every case there is, and `examples` are all drawn.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Hashable, Sequence
from typing import Any

import pytest

EXHAUSTIVE = os.environ.get("INTERP_EXHAUSTIVE", "") not in ("", "0")

Case = tuple[Any, ...]


def covering(*axes: Sequence[Any], strength: int = 2) -> list[Case]:
    """Cases, one value from each axis, in which any values of `strength` axes meet.

    They are chosen greedily: next is always the case that brings most new meetings, the earliest of
    several. The choice depends on the sizes of the axes alone, so it is the same in every worker.

    Returns:
        Every case if `EXHAUSTIVE`.

    Raises:
        ValueError: If `strength` is not among 1 … the number of axes.
    """
    if not 1 <= strength <= len(axes):
        raise ValueError(f"strength must lie in 1 … {len(axes)}. Received {strength}.")
    every = list(itertools.product(*(range(len(axis)) for axis in axes)))
    if EXHAUSTIVE:
        chosen = every
    else:
        chosen = []
        meetings = {case: _meetings(case, strength) for case in every}
        missing = set().union(*meetings.values())
        while missing:
            best = max(every, key=lambda case: len(meetings[case] & missing))
            chosen.append(best)
            missing -= meetings[best]
    return [tuple(axis[i] for axis, i in zip(axes, case, strict=True)) for case in chosen]


def every_nth(values: Sequence[Any], n: int, first: int) -> Sequence[Any]:
    """The values at `first`, `first + n`, …; all of them if `EXHAUSTIVE`.

    Cases that differ in `first` share the values out among them.
    """
    return values if EXHAUSTIVE else values[first % n :: n]


slow = pytest.mark.skipif(
    not EXHAUSTIVE, reason="takes seconds, and others show it in part: make test-exhaustive"
)


def examples(n: int) -> int:
    """A third of `n`: how many examples of its own hypothesis draws; all of them if `EXHAUSTIVE`.

    For tests that take a second and longer.
    """
    return n if EXHAUSTIVE else -(-n // 3)


def _meetings(case: Case, strength: int) -> set[Hashable]:
    return set(itertools.combinations(enumerate(case), strength))
