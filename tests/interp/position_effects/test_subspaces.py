"""Principal angles beside scipy's, planted ones, and random subspaces."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import InputError
from interp.position_effects.subspaces import overlap, principal_angles, random_overlap
from tests.interp.position_effects.planted import orthonormal


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(5, 9))
def test_angles_are_those_of_scipy(a: int, b: int, d: int) -> None:
    linalg = pytest.importorskip("scipy.linalg", reason="needs scipy")
    first, second = orthonormal(a, d), orthonormal(b, d, seed=1)
    found = principal_angles(first, second)
    expected = torch.tensor(linalg.subspace_angles(first.T.numpy(), second.T.numpy()).copy())
    # Its angles near zero are good to 1e-8 alone; those are planted below.
    assert found.cos().tolist() == pytest.approx(expected.sort()[0].cos().tolist(), abs=1e-12)
    assert bool((found.diff() >= 0).all())
    projected = (first @ second.T).square().sum() / min(a, b)
    assert overlap(found) == pytest.approx(float(projected))


def test_planted_angles_also_tiny_ones() -> None:
    axes = orthonormal(6, 8)
    planted = [1e-9, 0.3, 1.5]
    turned = torch.stack(
        [math.cos(x) * axes[i] + math.sin(x) * axes[3 + i] for i, x in enumerate(planted)]
    )
    mixed = orthonormal(3, 3, seed=4) @ turned  # another basis of the same subspace
    assert principal_angles(axes[:3], mixed).tolist() == pytest.approx(planted, rel=1e-6)
    assert overlap(principal_angles(axes[:3], axes[:3])) == 1.0
    assert overlap(principal_angles(axes[:3], axes[3:])) == pytest.approx(0.0, abs=1e-20)


def test_the_baseline_is_that_of_random_subspaces() -> None:
    found = [
        overlap(principal_angles(orthonormal(3, 20, seed=i), orthonormal(5, 20, seed=1000 + i)))
        for i in range(400)
    ]
    expected, highest = random_overlap(20, 3, 5, draws=2000)
    assert expected == 5 / 20
    assert sum(found) / 400 == pytest.approx(expected, abs=0.02)
    assert sum(x > highest for x in found) / 400 == pytest.approx(0.05, abs=0.035)
    assert random_overlap(6, 6, 2) == (1.0, pytest.approx(1.0))


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="orthonormal"):
        principal_angles(torch.ones(2, 3), orthonormal(1, 3))
    with pytest.raises(InputError, match="one space"):
        principal_angles(orthonormal(1, 4), orthonormal(1, 3))
    with pytest.raises(InputError, match="component, d"):
        principal_angles(torch.ones(3), orthonormal(1, 3))
    with pytest.raises(InputError, match="one or more"):
        principal_angles(torch.ones(0, 3), orthonormal(1, 3))
    with pytest.raises(InputError, match="within 4"):
        random_overlap(4, 5, 1)
