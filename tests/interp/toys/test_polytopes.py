"""Polytopes by what defines them: unit vectors, angles, tight frames, dimensionality."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from interp.errors import InputError
from interp.toys import polytopes
from interp.toys.measures import feature_dimensionality
from interp.toys.polytopes import regular_polygon, simplex, square_antiprism, tegum_product

# Corners of the two squares: (1 - z²) cos 45° - z² with z² = 1/3, and with cos 135°.
_NEAR = math.degrees(math.acos((math.sqrt(2) - 1) / 3))
_FAR = math.degrees(math.acos((-math.sqrt(2) - 1) / 3))
_SHAPES = {
    "digon": (polytopes.digon(), {180.0: 1}),
    "triangle": (polytopes.triangle(), {120.0: 2}),
    "tetrahedron": (polytopes.tetrahedron(), {109.471221: 3}),
    "pentagon": (polytopes.pentagon(), {72.0: 2, 144.0: 2}),
    "simplex of 2": (simplex(2), {180.0: 1}),
    "simplex of 6": (simplex(6), {math.degrees(math.acos(-0.2)): 5}),
    "hexagon": (regular_polygon(6), {60.0: 2, 120.0: 2, 180.0: 1}),
    "octahedron": (polytopes.octahedron(), {90.0: 4, 180.0: 1}),
    "orthoplex": (polytopes.orthoplex(5), {90.0: 8, 180.0: 1}),
    "cube": (polytopes.cube(), {70.528779: 3, 109.471221: 3, 180.0: 1}),
    "icosahedron": (polytopes.icosahedron(), {63.434949: 5, 116.565051: 5, 180.0: 1}),
    "square antiprism": (
        square_antiprism(),
        {70.528779: 2, 109.471221: 1, _NEAR: 2, _FAR: 2},
    ),
}


@pytest.mark.parametrize("name", _SHAPES)
def test_angles_and_dimensionality(name: str) -> None:
    W, expected = _SHAPES[name]
    d_hidden, features = W.shape
    assert W.dtype == torch.float64
    gram = W.T @ W
    assert float((gram.diagonal() - 1).abs().max()) <= 1e-14
    angles = gram.clamp(-1, 1).acos().rad2deg()
    for row in range(features):  # each vertex sees the same angles
        others = sorted(angles[row, [k for k in range(features) if k != row]].tolist())
        wanted = sorted(angle for angle, n in expected.items() for _ in range(n))
        assert others == pytest.approx(wanted, abs=2e-3)
    assert (
        float((W @ W.T - torch.eye(d_hidden).double() * (features / d_hidden)).abs().max()) <= 1e-14
    )
    assert float((feature_dimensionality(W) - d_hidden / features).abs().max()) <= 1e-12


def test_antiprisms() -> None:
    for squared in (0.1, 1 / 3, 0.6):
        W = square_antiprism(squared)
        assert torch.allclose(W[2].square(), torch.tensor(squared).double())
        assert float((W.square().sum(0) - 1).abs().max()) <= 1e-14
        # Two squares of side r√2 each, turned by 45°.
        for half in (W[:, :4], W[:, 4:]):
            gram = half.T @ half
            assert gram[0, 1:].tolist() == pytest.approx([squared, 2 * squared - 1, squared])
        between = (W[:2, :4].T @ W[:2, 4:]) / (1 - squared)
        assert between.abs().flatten().tolist() == pytest.approx([0.5**0.5] * 16)


def test_tegum_products(assert_close: Callable[..., None]) -> None:
    parts: list[Tensor] = [polytopes.pentagon(), polytopes.digon(), simplex(4)]
    W = tegum_product(*parts)
    assert W.shape == (2 + 1 + 3, 5 + 2 + 4)
    expected = torch.cat([feature_dimensionality(part) for part in parts])
    assert_close(feature_dimensionality(W), expected, tolerance=1e-12)
    assert float((W.T @ W)[:5, 5:].abs().max()) == 0
    assert torch.equal(polytopes.bipyramid(7), W[:3, :7])


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: regular_polygon(2), "n_features must be a whole number of at least 3"),
        (lambda: simplex(1), "n_features must be a whole number of at least 2"),
        (lambda: polytopes.orthoplex(0), "d_hidden must be a whole number of at least 1"),
        (lambda: polytopes.bipyramid(4), "n_features must be a whole number of at least 5"),
        (lambda: square_antiprism(1.0), "squared_height must lie between 0 and 1"),
        (lambda: tegum_product(), "one or more matrices"),
        (lambda: tegum_product(torch.ones(2)), r"one or more matrices.*Received shapes \[\[2\]\]"),
    ],
)
def test_bad_input(make: Callable[[], Tensor], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        make()
