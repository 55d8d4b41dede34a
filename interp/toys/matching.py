"""Matching the angles of a part with those of a shape, in whatever order its features come.

Any shape is matched by a search over orders, which is short as long as the shape's own angles are
farther apart than the tolerance. Those of polygons with many vertices are not, but these have an
order of their own, around the plane.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from numpy.typing import NDArray

_SLACK = 1e-9  # degrees: what rounding may add to a tolerance of 0


def smallest_deviation(
    angles: Float[ndarray, "feature feature"],
    shape: Float[ndarray, "vertex vertex"],
    tolerance: float,
) -> float | None:
    """How far some order of the features is from a shape, in the angle that is farthest off.

    Orders are searched vertex by vertex; a vertex takes only features whose angles to all that are
    placed are within the tolerance. Two orders that fit differ by a symmetry of the shape, and so
    have one deviation, as long as the shape's own angles are farther apart than twice the
    tolerance; where they are nearer, the deviation is that of the first order found.

    Args:
        angles: Between features, in degrees.
        shape: Between as many vertices.
        tolerance: In degrees.

    Returns:
        The largest absolute difference of an angle, or None where no order is within the tolerance.
    """
    n = len(shape)
    tolerance += _SLACK
    # Sorted lists differ, in their largest difference, no more than matched ones: most parts that
    # do not fit are turned away here.
    if len(angles) != n or np.abs(np.sort(angles, None) - np.sort(shape, None)).max() > tolerance:
        return None
    profiles = np.abs(np.sort(angles)[:, None] - np.sort(shape)[None]).max(-1) <= tolerance
    order = _search(angles, shape, tolerance, profiles.T, [])
    if order is None:
        return None
    return float(np.abs(angles[np.ix_(order, order)] - shape).max())


def deviation_from_polygon(
    angles: Float[ndarray, "feature feature"], tolerance: float
) -> float | None:
    """How far features are from a regular polygon, taken in their order around the plane.

    The plane is the one that holds most of their squares.

    Args:
        angles: Between features, in degrees; three features or more.
        tolerance: In degrees.

    Returns:
        The largest absolute difference of an angle, or None where it is above the tolerance.
    """
    n = len(angles)
    values, vectors = np.linalg.eigh(np.cos(np.radians(angles)))
    first, second = (vectors[:, -2:] * np.sqrt(values[-2:].clip(0.0))).T
    order = np.argsort(np.arctan2(second, first))
    steps = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    polygon = np.minimum(steps, n - steps) * (360.0 / n)
    deviation = float(np.abs(angles[np.ix_(order, order)] - polygon).max())
    return deviation if deviation <= tolerance + _SLACK else None


def _search(
    angles: NDArray[np.float64],
    shape: NDArray[np.float64],
    tolerance: float,
    allowed: NDArray[np.bool_],
    placed: list[int],
) -> list[int] | None:
    """Features for the vertices that follow those placed, by what `[vertex, feature]` allows."""
    vertex = len(placed)
    if vertex == len(shape):
        return placed
    for feature in np.flatnonzero(allowed[vertex]):
        near = np.abs(angles[feature][None] - shape[vertex][:, None]) <= tolerance
        left = allowed & near
        left[:, feature] = False
        if left[vertex + 1 :].any(1).all():
            order = _search(angles, shape, tolerance, left, [*placed, int(feature)])
            if order is not None:
                return order
    return None
