"""The checks of weights: they pass on any, and each catches a measure that is wrong."""

from __future__ import annotations

import pytest
import torch

from analyses.superposition import identities
from analyses.superposition.identities import weight_checks
from interp.toys.polytopes import pentagon


def _weights() -> torch.Tensor:
    W = torch.randn(4, 3, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    W[1, :, 2] = 0.0
    W[2, 1:] = 0.0  # rank 1
    W[3] = 0.0
    return W


def test_hold_for_any_weights() -> None:
    for W in (_weights(), _weights().float(), pentagon()):
        assert [check.passed for check in weight_checks(W)] == [True] * 3


@pytest.mark.parametrize(
    ("measure", "caught"),
    [("feature_norms", 0), ("superposition", 1), ("feature_dimensionality", 2)],
)
def test_each_catches_a_wrong_measure(
    measure: str, caught: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = getattr(identities, measure)
    monkeypatch.setattr(identities, measure, lambda W: right(W) * 1.001 + 1e-6)
    W = _weights()[:1] if measure != "feature_dimensionality" else pentagon()
    assert [not check.passed for check in weight_checks(W)] == [k == caught for k in range(3)]
