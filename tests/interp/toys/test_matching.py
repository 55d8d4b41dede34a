"""The search for an order against all orders."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from interp.toys import polytopes
from interp.toys.matching import deviation_from_polygon, smallest_deviation

_SHAPES = [
    polytopes.pentagon(),
    polytopes.regular_polygon(6),
    polytopes.simplex(5),
    polytopes.octahedron(),
    polytopes.bipyramid(5),
    # Vertices of three kinds.
    polytopes.tegum_product(
        polytopes.triangle(), polytopes.digon(), torch.ones(1, 1, dtype=torch.float64)
    ),
]


def _angles(unit: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.degrees(np.arccos((unit.T @ unit).clip(-1, 1)))


@settings(max_examples=40, deadline=None)
@given(
    which=st.integers(0, len(_SHAPES) - 1),
    seed=st.integers(0, 9999),
    noise=st.sampled_from([0.0, 0.01, 0.05, 0.15]),
    tolerance=st.sampled_from([0.5, 3.0, 8.0]),
)
def test_all_orders(which: int, seed: int, noise: float, tolerance: float) -> None:
    shape = _SHAPES[which].numpy()
    random = np.random.default_rng(seed)
    n = shape.shape[1]
    moved = shape[:, random.permutation(n)] + noise * random.normal(size=shape.shape)
    angles, wanted = _angles(moved / np.linalg.norm(moved, axis=0)), _angles(shape)
    least = min(
        np.abs(angles[np.ix_(order, order)] - wanted).max() for order in permutations(range(n))
    )
    found = smallest_deviation(angles, wanted, tolerance)
    if least <= tolerance:
        assert found == pytest.approx(least, abs=1e-9)
    else:
        assert found is None


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(3, 8),
    seed=st.integers(0, 9999),
    noise=st.sampled_from([0.0, 0.01, 0.05, 0.15]),
    tolerance=st.sampled_from([0.5, 3.0, 8.0]),
)
def test_polygons_by_the_search(n: int, seed: int, noise: float, tolerance: float) -> None:
    shape = np.cos(np.arange(n) * 2 * np.pi / n), np.sin(np.arange(n) * 2 * np.pi / n), np.zeros(n)
    random = np.random.default_rng(seed)
    moved = np.stack(shape)[:, random.permutation(n)] + noise * random.normal(size=(3, n))
    angles = _angles(moved / np.linalg.norm(moved, axis=0))
    wanted = smallest_deviation(angles, _angles(np.stack(shape)), tolerance)
    found = deviation_from_polygon(angles, tolerance)
    assert found == pytest.approx(wanted, abs=1e-5)  # degrees: arccos at 180° rounds so


def test_no_order_of_another_number_fits() -> None:
    assert smallest_deviation(np.zeros((2, 2)), np.zeros((3, 3)), 5.0) is None


def test_equal_angles_in_another_place_do_not_fit() -> None:
    """Two triangles and a hexagon, as graphs of two angles: each row and each sorted list alike."""
    near, far = 60.0, 90.0
    hexagon, triangles = np.full((2, 6, 6), far)
    for i in range(6):
        hexagon[i, i] = triangles[i, i] = 0.0
        for j in ((i + 1) % 6, (i - 1) % 6):
            hexagon[i, j] = near
        for j in range(i // 3 * 3, i // 3 * 3 + 3):
            if i != j:
                triangles[i, j] = near
    assert np.array_equal(np.sort(hexagon), np.sort(triangles))
    assert smallest_deviation(triangles, hexagon, 5.0) is None
    assert smallest_deviation(hexagon, hexagon[::-1, ::-1], 5.0) == 0.0
