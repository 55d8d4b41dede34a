"""A few of many, evenly chosen: snapshots of a training run, layers, sites."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def evenly(many: Sequence[T], most: int) -> list[T]:
    """At most so many of these, evenly chosen by their places, the last always included."""
    if len(many) <= most:
        return list(many)
    last = len(many) - 1
    if most == 1:
        return [many[last]]
    return [many[round(i * last / (most - 1))] for i in range(most)]
