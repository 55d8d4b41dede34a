"""The recogniser on constructed shapes (moved, scaled, shaken) and on charges at rest."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp.errors import InputError
from interp.probes.lbfgs import minimise
from interp.toys import polytopes
from interp.toys.geometry import recognise, recognise_each, shape_of
from interp.toys.measures import feature_dimensionality
from interp.toys.polytopes import regular_polygon, simplex, square_antiprism, tegum_product

_LONE = torch.ones(1, 1, dtype=torch.float64)
_PARTS: dict[str, Tensor] = {
    "monosemantic": _LONE,
    "digon": polytopes.digon(),
    "triangle": polytopes.triangle(),
    "tetrahedron": polytopes.tetrahedron(),
    "simplex of 6": simplex(6),
    "pentagon": polytopes.pentagon(),
    "hexagon": regular_polygon(6),
    "octagon": regular_polygon(8),
    "11-gon": regular_polygon(11),
    "square antiprism": square_antiprism(),
    "cube": polytopes.cube(),
    "icosahedron": polytopes.icosahedron(),
}


def _moved(
    W: Tensor, seed: int, spare: int = 2, degrees: float = 0.0, scale: float = 1.0
) -> Tensor:
    """Turned at random in a larger space, columns shuffled and shaken by so many degrees at most.

    A shake turns each column towards a random direction orthogonal to it; by at most half the
    degrees, so that no angle between two moves by more than that.
    """
    generator = torch.Generator().manual_seed(seed)
    features = W.shape[1]
    wide = torch.cat([W, torch.zeros(spare, features, dtype=W.dtype)])
    random = torch.randn(len(wide), len(wide), dtype=W.dtype, generator=generator)
    W = torch.linalg.qr(random)[0] @ wide
    W = W[:, torch.randperm(features, generator=generator)]
    aside = torch.randn(W.shape, dtype=W.dtype, generator=generator)
    aside = aside - (aside * W).sum(0) * W
    angle = math.radians(degrees / 2) * torch.rand(features, dtype=W.dtype, generator=generator)
    return (angle.cos() * W + angle.sin() * aside / aside.norm(dim=0)) * scale


@pytest.mark.parametrize("name", _PARTS)
@pytest.mark.parametrize("degrees", [0.0, 3.0])
def test_each_shape(name: str, degrees: float) -> None:
    for seed in range(4):
        W = _moved(_PARTS[name], seed, degrees=degrees, scale=(1.0, 1e-6)[seed % 2])
        found = recognise(W)
        (part,) = found.parts
        assert part.name == str(part) == found.summary == found.solid == name
        assert part.features == tuple(range(W.shape[1]))
        assert part.rank == _PARTS[name].shape[0]
        assert part.deviation <= max(degrees, 1e-5)
        assert part.is_named and found.absent == () and found.slant == 0.0
        assert part.norms == pytest.approx(W.norm(dim=0).tolist())
        assert part.dimensionalities == pytest.approx(feature_dimensionality(W).tolist())
        assert part.dimensionality == pytest.approx(part.rank / W.shape[1], abs=0.01)


@settings(max_examples=40, deadline=None)
@given(
    names=st.lists(st.sampled_from(sorted(_PARTS)), min_size=1, max_size=5),
    seed=st.integers(0, 9999),
    degrees=st.sampled_from([0.0, 2.0]),
    n_absent=st.integers(0, 3),
)
def test_tegum_products(names: list[str], seed: int, degrees: float, n_absent: int) -> None:
    W = _moved(tegum_product(*[_PARTS[name] for name in names]), seed, 1, degrees)
    generator = torch.Generator().manual_seed(seed)
    tiny = 0.1 * torch.randn(W.shape[0], n_absent, generator=generator).double()
    tiny = tiny / max(1.0, float(tiny.norm(dim=0).max()) / 0.2 if n_absent else 1.0)
    both = torch.cat([W, tiny], 1)
    order = torch.randperm(both.shape[1], generator=generator)
    found = recognise(both[:, order])
    assert sorted(part.name for part in found.parts) == sorted(names)
    absent = [int((order == W.shape[1] + k).nonzero()) for k in range(n_absent)]
    assert found.absent == tuple(sorted(absent))
    members = sorted(k for part in found.parts for k in part.features)
    assert members == sorted(set(range(both.shape[1])) - set(absent))
    assert found.slant <= max(degrees, 1e-5)
    assert found.d_hidden == W.shape[0]


def test_polygons_of_many_features() -> None:
    """Ninety features 4° apart, moved by a wave: of all orders too many fit to search them."""
    wave = torch.linspace(0, 2 * math.pi, 90).double().sin()
    order = torch.randperm(90, generator=torch.Generator().manual_seed(0))
    for height in (0.0, 2.4, 2.6):  # from crest to trough angles change by twice as much
        angles = (torch.arange(90) * 4 + height * wave).deg2rad()[order]
        (part,) = recognise(torch.stack([angles.cos(), angles.sin()])).parts
        assert part.rank == 2
        assert part.name == ("90-gon" if height < 2.5 else "unnamed")
        if part.is_named:
            assert part.deviation == pytest.approx(2 * height, abs=0.05)


def test_the_worst_angle_is_reported(assert_close: Callable[..., None]) -> None:
    """One corner of a pentagon turned in the plane by 3°: four angles change by 3°."""
    W = polytopes.pentagon()
    angle = torch.tensor(math.radians(2 * 72 + 3)).double()
    W[:, 2] = torch.stack([angle.cos(), angle.sin()])
    part = recognise(W).parts[0]
    assert part.name == "pentagon" and part.deviation == pytest.approx(3.0, abs=1e-5)
    assert recognise(W, tolerance=2.9).summary == "unnamed part (5 features in 2 dimensions)"
    assert math.isnan(recognise(W, tolerance=2.9).parts[0].deviation)
    # Two features at 86°.
    angle = math.radians(86.0)
    tilted = torch.tensor([[1.0, math.cos(angle)], [0.0, math.sin(angle)]]).double()
    found = recognise(tilted)
    assert found.summary == "2 monosemantic features"
    assert found.slant == pytest.approx(4.0, abs=1e-5)
    joined = recognise(tilted, join=3.9)
    assert joined.summary == "unnamed part (2 features in 2 dimensions)" and joined.slant == 0.0


def test_noise_above_the_tolerance_is_not_named() -> None:
    for name, W in _PARTS.items():
        if name != "monosemantic":
            found = recognise(_moved(W, 3, degrees=40.0), tolerance=2.0)
            assert name not in [part.name for part in found.parts], name


def test_equal_dimensionalities_other_shapes() -> None:
    """D = 3/8 for both, and for eight vectors that are no polytope at all."""
    antiprism, cube = square_antiprism(), polytopes.cube()
    assert recognise(antiprism).summary == "square antiprism"
    assert recognise(cube).summary == "cube"
    frame = tegum_product(torch.ones(1, 1).double(), torch.ones(1, 1).double(), _LONE)
    frame = torch.cat([frame, polytopes.cube()[:, :5]], 1)
    for _ in range(2000):  # the nearest tight frame of unit vectors, by turns
        values, vectors = torch.linalg.eigh(frame @ frame.T)
        frame = vectors @ torch.diag(values.rsqrt()) @ vectors.T @ frame * (8 / 3) ** 0.5
        frame = frame / frame.norm(dim=0)
    assert float((feature_dimensionality(frame) - 3 / 8).abs().max()) <= 1e-3
    assert recognise(frame).summary == "unnamed part (8 features in 3 dimensions)"
    # 2/4 for a square of digons and for an oblique cross.
    cross = torch.tensor([[1.0, -1.0, 0.5, -0.5], [0.0, 0.0, 0.75**0.5, -(0.75**0.5)]]).double()
    assert recognise(cross).summary == "unnamed part (4 features in 2 dimensions)"
    assert recognise(cross).solid is None
    assert recognise(regular_polygon(4)).summary == "2 digons"
    # Two features in one direction are no digon; nor are two at 60°.
    assert (
        recognise(torch.ones(1, 2).double()).summary == "unnamed part (2 features in 1 dimension)"
    )
    assert recognise(cross[:, [0, 2]]).summary == "unnamed part (2 features in 2 dimensions)"
    # A triangle drawn out of its plane.
    assert recognise(torch.eye(3).double() + 0.3).parts[0].name == "unnamed"


def _rest(n: int) -> Tensor:
    """Charges on a sphere at rest: the Thomson problem, by descent from a random start."""
    above = torch.ones(n, n).triu(1).bool()

    def energy(x: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = x.detach().requires_grad_()
        unit = x.view(3, n) / x.view(3, n).norm(dim=0)
        total = (unit[:, :, None] - unit[:, None]).square().sum(0)[above].rsqrt().sum()
        (gradient,) = torch.autograd.grad(total, x)
        return total.detach().view(1, 1), gradient, gradient.abs().amax(-1)

    start = torch.randn(
        1, 1, 3 * n, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    x = minimise(energy, start, tol=1e-7, max_iter=500).point.view(3, n)
    return x / x.norm(dim=0)


@pytest.mark.parametrize(
    ("n", "summary", "solid"),
    [
        (2, "digon", "digon"),
        (3, "triangle", "triangle"),
        (4, "tetrahedron", "tetrahedron"),
        (5, "triangle × digon", "triangular bipyramid"),
        (6, "3 digons", "octahedron"),
        (7, "pentagon × digon", "pentagonal bipyramid"),
        (8, "square antiprism", "square antiprism"),
        (12, "icosahedron", "icosahedron"),
    ],
)
def test_charges_at_rest(n: int, summary: str, solid: str) -> None:
    found = recognise(_rest(n))
    assert found.summary == summary and found.solid == solid


def test_words() -> None:
    W = tegum_product(*[polytopes.digon()] * 2, polytopes.pentagon(), _LONE, _LONE)
    found = recognise(W)
    assert found.summary == "pentagon × 2 digons × 2 monosemantic features"
    assert found.counts == {"pentagon": 1, "digon": 2, "monosemantic": 2}
    assert found.solid is None
    assert recognise(polytopes.orthoplex(5)).solid == "orthoplex of 5 dimensions"
    assert recognise(torch.zeros(2, 3)).summary == "nothing"
    fading = torch.tensor([[1.0, -1.0, 0.3]])
    assert recognise(fading).summary == "unnamed part (3 features in 1 dimension)"
    assert recognise(fading, represented=0.5).summary == "digon"
    assert recognise(fading, represented=0.5).absent == (2,)
    assert recognise(torch.zeros(2, 3)).absent == (0, 1, 2)
    several = recognise(tegum_product(*[simplex(4)] * 2, *[simplex(7)] * 2, torch.ones(1, 2)))
    assert several.summary == (
        "2 simplices of 7 × 2 tetrahedra × unnamed part (2 features in 1 dimension)"
    )
    rows = several.rows()
    assert [row["n_features"] for row in rows] == [7, 7, 4, 4, 2]
    assert rows[2]["shape"] == "tetrahedron" and rows[2]["rank"] == 3


def test_many_models_and_one_shape() -> None:
    models = torch.stack([polytopes.cube(), square_antiprism(), tegum_product(
        polytopes.digon(), regular_polygon(6))]).float()  # fmt: skip
    assert [found.summary for found in recognise_each(models)] == [
        "cube",
        "square antiprism",
        "hexagon × digon",
    ]
    name, deviation = shape_of(square_antiprism(0.31)) or ("", 0.0)
    assert name == "square antiprism" and 1.0 < deviation < 5.0
    assert shape_of(polytopes.octahedron()) is None  # three digons, not one part
    name, deviation = shape_of((polytopes.pentagon() * 1e-30).float()) or ("", 1.0)
    assert name == "pentagon" and deviation < 1e-5


def test_bad_input() -> None:
    W = polytopes.pentagon()
    with pytest.raises(InputError, match=r"W must be \[d_hidden, feature\]. Received shape \[5\]"):
        recognise(W[0])
    with pytest.raises(InputError, match="finite numbers"):
        recognise(W * math.inf)
    with pytest.raises(InputError, match="tolerance must be below 30"):
        recognise(W, tolerance=40)
    with pytest.raises(InputError, match="join must be a number and positive"):
        recognise(W, join=0)
    with pytest.raises(InputError, match="represented must be at most 1"):
        recognise(W, represented=2)
    with pytest.raises(InputError, match="no column of zeros"):
        shape_of(torch.zeros(2, 2))
    with pytest.raises(InputError, match="W must be finite numbers"):
        shape_of(W * math.nan)
    with pytest.raises(InputError, match="tolerance must be a number and positive"):
        shape_of(W, tolerance=-1)
