"""The edges of polytopes: those that geometry counts, whatever rotation and noise."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from interp.errors import InputError
from interp.toys import polytopes
from interp.toys.hull import hull_edges

SHAPES = {
    "digon": (polytopes.digon(), 1),
    "triangle": (polytopes.triangle(), 3),
    "square": (polytopes.orthoplex(2), 4),
    "pentagon": (polytopes.pentagon(), 5),
    "tetrahedron": (polytopes.tetrahedron(), 6),
    "octahedron": (polytopes.octahedron(), 12),
    "triangular bipyramid": (polytopes.bipyramid(5), 9),
    "pentagonal bipyramid": (polytopes.bipyramid(7), 15),
    "square antiprism": (polytopes.square_antiprism(), 16),
    "cube": (polytopes.cube(), 12),
    "icosahedron": (polytopes.icosahedron(), 30),
}


def _turned(W: torch.Tensor, noise: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    d_hidden = W.shape[0]
    rotation = torch.linalg.qr(
        torch.randn(d_hidden, d_hidden, dtype=W.dtype, generator=generator)
    ).Q
    return rotation @ W + noise * torch.randn(W.shape, dtype=W.dtype, generator=generator)


@pytest.mark.parametrize("noise", [0.0, 0.01])
@pytest.mark.parametrize("name", SHAPES)
def test_a_polytope_has_its_edges(name: str, noise: float) -> None:
    W, count = SHAPES[name]
    found = hull_edges(_turned(W, noise))
    assert len(found) == count
    assert found == hull_edges(W)
    if W.shape[0] == 3:  # Euler: corners - edges + faces = 2, each face of three edges or more
        faces = 2 - W.shape[1] + count
        assert 3 * faces <= 2 * count


def test_edges_of_a_cube_are_as_long_as_its_sides() -> None:
    W = polytopes.cube()
    lengths = [float((W[:, i] - W[:, j]).norm()) for i, j in hull_edges(W)]
    assert lengths == pytest.approx([2 / 3**0.5] * 12)


def test_neighbours_around_a_polygon() -> None:
    W = polytopes.regular_polygon(6)
    assert hull_edges(W) == [(0, 1), (0, 5), (1, 2), (2, 3), (3, 4), (4, 5)]
    flat = torch.cat([W, torch.zeros(1, 6, dtype=W.dtype)])
    assert hull_edges(flat) == hull_edges(W)


@pytest.mark.parametrize("d_hidden", [2, 3])
def test_any_hull_has_the_edges_that_qhull_finds(d_hidden: int) -> None:
    spatial = pytest.importorskip("scipy.spatial", reason="needs scipy, of the extra 'dev'")
    W = torch.randn(d_hidden, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    sides = spatial.ConvexHull(W.T.numpy()).simplices.tolist()
    expected = {(min(pair), max(pair)) for side in sides for pair in combinations(side, 2)}
    assert set(hull_edges(W, 0.01)) == expected


def test_few_columns() -> None:
    assert hull_edges(torch.ones(3, 1)) == []
    assert hull_edges(torch.eye(3)[:, :2]) == [(0, 1)]


@pytest.mark.parametrize(
    ("W", "message"),
    [
        (torch.eye(4), "1 to 3 dimensions"),
        (torch.ones(2, 61), "1 to 3 dimensions by 60"),
        (torch.zeros(0, 3), "1 to 3 dimensions"),
        (torch.full((2, 3), torch.nan), "finite"),
    ],
)
def test_bad_input_is_told(W: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        hull_edges(W)


@pytest.mark.parametrize("tolerance", [0.0, 30.0, float("nan")])
def test_a_tolerance_is_a_small_angle(tolerance: float) -> None:
    with pytest.raises(InputError, match="tolerance must be"):
        hull_edges(torch.eye(3), tolerance)
