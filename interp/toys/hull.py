"""The edges of the polytope that a few directions are the corners of."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from interp.errors import require, require_number

MOST_CORNERS = 60


def hull_edges(
    W: Float[Tensor, "d_hidden feature"], tolerance: float = 5.0
) -> list[tuple[int, int]]:
    """Pairs of columns between which their convex hull has an edge.

    In a plane these are neighbours around it, and in space those corners that two faces share; a
    face with more than three corners has no diagonals. Corners that are off a plane by less than
    the tolerance make one face, and faces whose normals are within twice the tolerance are one:
    edges at which faces meet more flatly than that are not found. Every triple of corners is tried,
    so there may not be many.

    Args:
        W: Columns, in one, two or three dimensions. All are taken for corners: leave out columns
            near zero, and those that point where another does.
        tolerance: In degrees: corners of trained toys are a little off a face, by its sine times
            the hull's size at most.

    Returns:
        Pairs of column indices, each rising, in order. None for fewer than two columns.

    Raises:
        InputError: For another number of dimensions, more than 60 columns, numbers that are not
            finite, or a tolerance that is not between 0 and 30.
    """
    require(
        W.ndim == 2 and 1 <= W.shape[0] <= 3 and W.shape[1] <= MOST_CORNERS,
        f"W must be 1 to 3 dimensions by {MOST_CORNERS} columns. Received {list(W.shape)}",
    )
    require(bool(W.isfinite().all()), "W must be finite numbers. Received others")
    require_number("tolerance", tolerance)
    require(tolerance < 30, f"tolerance must be below 30 degrees. Received {tolerance}")
    points: NDArray[np.float64] = W.detach().double().cpu().numpy().T
    if len(points) < 2:
        return []
    middle = points.mean(0)
    _, sizes, axes = np.linalg.svd(points - middle, full_matrices=False)
    slack = math.sin(math.radians(tolerance))
    rank = int((sizes > slack * max(float(sizes[0]), 1e-12)).sum())
    flat = (points - middle) @ axes[: max(rank, 1)].T
    if rank <= 1:
        return _sorted([(int(flat[:, 0].argmin()), int(flat[:, 0].argmax()))])
    if rank == 2:
        return _around(flat)
    return _shared_by_faces(flat, slack)


def _around(points: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pairs with all other points of a plane to one side."""
    found = []
    for i, j in combinations(range(len(points)), 2):
        along = points[j] - points[i]
        side = along[0] * (points[:, 1] - points[i, 1]) - along[1] * (points[:, 0] - points[i, 0])
        rest = np.delete(side, (i, j))
        if not len(rest) or rest.min() > 0 or rest.max() < 0:
            found.append((i, j))
    return found


def _shared_by_faces(points: NDArray[np.float64], slack: float) -> list[tuple[int, int]]:
    """Pairs that lie in two faces."""
    faces: list[tuple[NDArray[np.float64], set[int]]] = []
    size = float(np.linalg.norm(points, axis=1).max())
    for triple in combinations(range(len(points)), 3):
        first, second, third = points[list(triple)]
        normal = np.cross(second - first, third - first)
        length = float(np.linalg.norm(normal))
        if length < 1e-9 * size * size:
            continue  # on a line
        height = (points - first) @ (normal / length)
        outward = 1.0 if height.max() <= slack * size else -1.0
        if (outward * height).max() > slack * size:
            continue  # points on both sides
        normal = outward * normal / length
        corners = set(np.flatnonzero(np.abs(height) <= slack * size).tolist())
        for known, members in faces:
            if float(known @ normal) >= math.cos(2 * math.asin(slack)):
                members |= corners
                break
        else:
            faces.append((normal, corners))
    return [
        pair
        for pair in combinations(range(len(points)), 2)
        if sum(set(pair) <= members for _, members in faces) >= 2
    ]


def _sorted(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return sorted((min(pair), max(pair)) for pair in pairs if pair[0] != pair[1])
