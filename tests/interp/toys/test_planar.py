"""Angles in two dimensions against hand-made arrangements, and what a rotation leaves alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp.errors import InputError
from interp.toys.planar import angular_gaps, laid_beside
from interp.toys.polytopes import pentagon, regular_polygon
from tests.covering import examples


def _at(degrees: list[float], norms: list[float]) -> Tensor:
    """Columns of these angles and lengths."""
    angle = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angle.cos(), angle.sin()]) * torch.tensor(norms, dtype=torch.float64)


def _moved(W: Tensor, turn: float, mirror: bool) -> Tensor:
    c, s = math.cos(turn), math.sin(turn)
    rotation = torch.tensor([[c, -s], [s, c]], dtype=W.dtype)
    flip = torch.tensor([[1.0, 0.0], [0.0, -1.0 if mirror else 1.0]], dtype=W.dtype)
    return rotation @ flip @ W


def test_gaps_of_known_arrangements(assert_close: Callable[..., None]) -> None:
    for n in (3, 5, 8):
        found = angular_gaps(regular_polygon(n))
        assert_close(found, torch.full((n,), 360 / n, dtype=torch.float64), tolerance=1e-12)
    found = angular_gaps(_at([10, 100, 340, 50], [1, 1, 1, 0.1]))
    assert_close(found[:3], torch.tensor([90.0, 240.0, 30.0]).double(), tolerance=1e-12)
    assert bool(found[3].isnan()), "a feature that is not represented has no direction"
    found = angular_gaps(torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    assert found.tolist() == [0.0, 360.0], "two in one direction: nothing between them"
    assert angular_gaps(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))[0] == 360


@settings(max_examples=examples(60), deadline=None)
@given(
    degrees=st.lists(st.integers(0, 359), min_size=3, max_size=7, unique=True),
    turn=st.floats(-math.pi, math.pi),
    mirror=st.booleans(),
    data=st.data(),
)
def test_models_that_differ_by_a_rotation_are_laid_alike(
    assert_close: Callable[..., None],
    degrees: list[int],
    turn: float,
    mirror: bool,
    data: st.DataObject,
) -> None:
    n = len(degrees)
    norms = data.draw(st.permutations([1 + 0.07 * k for k in range(n)]))  # all different
    feature = data.draw(st.integers(0, n - 1))
    order = data.draw(st.permutations([k for k in range(n) if k != feature]))
    W = _at([float(d) for d in degrees], norms)
    renumbered = W.clone()
    renumbered[:, [k for k in range(n) if k != feature]] = W[:, order]
    found, again = laid_beside(W, feature), laid_beside(_moved(renumbered, turn, mirror), feature)
    assert_close(found, again, tolerance=1e-9)
    # The same lengths and angles as before: Gram matrices with the same entries.
    entries = [(each.T @ each).flatten().sort().values for each in (found, W)]
    assert_close(entries[0], entries[1], tolerance=1e-10)
    assert_close(found[:, 0].norm(), W[:, feature].norm(), tolerance=1e-12)
    assert float(found[0, 0]) > 0 and abs(float(found[1, 0])) <= 1e-12, "it points to the right"
    turns = torch.atan2(found[1, 1:], found[0, 1:]).remainder(2 * math.pi)
    assert turns.tolist() == sorted(turns.tolist())
    ends = found[:, [1, -1]].norm(dim=0)
    assert float(ends[0]) >= float(ends[1]) - 1e-12, "the longer neighbour comes first"


def test_without_a_direction_the_widest_gap_lies_to_the_right(
    assert_close: Callable[..., None],
) -> None:
    W = _at([77, 30, 120, 210, 250], [0.01, 1, 1, 1, 1])
    found = laid_beside(W)
    turns = torch.atan2(found[1, 1:], found[0, 1:]).rad2deg().remainder(360)
    expected = torch.tensor([70.0, 160.0, 250.0, 290.0]).double()
    mirrored = torch.tensor([70.0, 110.0, 200.0, 290.0]).double()
    near = [float((turns - each).abs().max()) for each in (expected, mirrored)]
    assert min(near) <= 1e-9
    # The small rest of the absent feature is turned and mirrored with the others.
    longer = _at([77, 30, 120, 210, 250], [0.01, 1, 1.1, 1.2, 1.3])
    for mirror in (False, True):
        assert_close(laid_beside(_moved(longer, 0.7, mirror)), laid_beside(longer), tolerance=1e-9)


def test_leading_axes_are_kept_and_nothing_is_no_fault() -> None:
    W = torch.stack([pentagon(), torch.zeros(2, 5, dtype=torch.float64)]).unsqueeze(0)
    assert laid_beside(W).shape == W.shape
    assert torch.equal(laid_beside(W)[0, 1], torch.zeros(2, 5, dtype=torch.float64))
    assert bool(angular_gaps(W)[0, 1].isnan().all())


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(InputError):
        angular_gaps(torch.zeros(3, 5))
    with pytest.raises(InputError):
        laid_beside(pentagon(), 5)
    with pytest.raises(InputError):
        laid_beside(pentagon(), represented=1.5)
