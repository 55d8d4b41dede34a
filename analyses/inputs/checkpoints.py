"""Which snapshots of a training run to look at."""

from __future__ import annotations

from collections.abc import Sequence


def evenly(steps: Sequence[int], most: int) -> list[int]:
    """At most so many of these steps, evenly chosen by their places, the last always included."""
    if len(steps) <= most:
        return list(steps)
    last = len(steps) - 1
    if most == 1:
        return [steps[last]]
    return [steps[round(i * last / (most - 1))] for i in range(most)]
