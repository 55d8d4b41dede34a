"""Correlated features: tables of arrangements known by hand, and toys trained for a moment."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from analyses import run_analysis
from analyses.superposition.correlated import (
    CorrelatedParams,
    _covariance_check,
    _identities,
    _train,
)
from analyses.superposition.correlated_tables import Condition, Toys, tables_of
from interp.errors import InputError
from interp.toys import groups

NAME = "superposition-correlated"
TINY: dict[str, Any] = {
    "steps": 20, "batch_size": 16, "n_seeds": 2, "n_seeds_of_sweeps": 2, "densities": [0.7, 0.1],
}  # fmt: skip


def _toys(W: Tensor, conditions: list[Condition], group_size: int) -> Toys:
    n_seeds = len(W) // len(conditions)
    return Toys(
        conditions=conditions,
        n_seeds=n_seeds,
        group_size=group_size,
        W=W.double(),
        loss=torch.arange(len(W), 0, -1).double(),  # the last of a condition is its best
        seeds=torch.arange(n_seeds).repeat(len(conditions)),
    )


def _at(degrees: list[float], length: float = 1.0) -> Tensor:
    angle = torch.tensor(degrees).deg2rad()
    return length * torch.stack([angle.cos(), angle.sin()])


def test_tables_count_arrangements() -> None:
    kinds = [
        Condition("correlated", 0.1, 0.1, 1.0, 2),
        Condition("independent", 0.1, 0.1, 0.0, 2),
        Condition("anticorrelated", 1.0, 0.5, -1.0, 2),
        Condition("independent (as dense)", 0.5, 0.5, 0.0, 2),
    ]
    orthogonal, antipodal = _at([0, 90, 180, 270]), _at([0, 180, 90, 270])
    near, far, short = _at([0, 84, 180, 265]), _at([0, 70, 180, 265]), 0.4 * orthogonal
    pairs = torch.stack(
        [orthogonal, near, far, short, orthogonal, antipodal, orthogonal, antipodal]
        + [antipodal, antipodal, antipodal, orthogonal, *[_at([0, 0, 180, 180])] * 4]
    )
    # In two dimensions sparse pairs lie side by side and dense ones merge; so in three.
    sweep = [Condition("correlated", p, p, 1.0, m) for m in (2, 3) for p in (0.05, 0.7)]
    flat = [_at([0, 60, 120, 180, 240, 300]), _at([0, 0, 120, 120, 240, 240])]
    basis = torch.eye(3).repeat_interleave(2, 1)
    apart = torch.cat([torch.eye(3), -torch.eye(3)], 1)[:, [0, 1, 3, 5, 2, 4]]
    merging = torch.zeros(4, 3, 6)
    merging[0, :2], merging[1, :2], merging[2], merging[3] = *flat, apart, basis
    sets = torch.cat([torch.eye(10), -torch.eye(10)], 1)[None]
    tables = tables_of(
        _toys(pairs, kinds, 2),
        _toys(merging, sweep, 2),
        _toys(sets, [Condition("correlated", 0.1, 0.1, 1.0, 10)], 10),
        tolerance=10.0,
    )
    counted = tables["pairs"].set_index("kind")
    assert counted["orthogonal"].tolist() == [0.5, 0.5, 0.25, 0.0]
    assert counted["antipodal"].tolist() == [0.0, 0.5, 0.75, 0.0]
    assert counted["side_by_side"].tolist() == [0.0, 0.0, 0.0, 1.0]
    assert counted["all_represented"].tolist() == [0.75, 1.0, 1.0, 1.0]
    assert counted["best_loss"].tolist() == [13.0, 9.0, 5.0, 1.0]
    found = tables["merging"]
    assert found["merged_share"].tolist() == pytest.approx([0.75, 1.0, 0.5, 1.0])
    assert found["most_degrees"].tolist() == pytest.approx([60, 0, 90, 0], abs=1e-4)
    # Principal components of three pairs, by hand: variance a, covariance c, in m dimensions
    # m sums of variance a + c are kept.
    p = 0.05
    a, c = p / 3 - p * p / 4, p * (1 - p) / 4
    kept = [2 * (a + c), 3 * (a + c)]
    assert found["principal_components_loss"].tolist()[::2] == pytest.approx(
        [(6 * a - k) / 6 for k in kept]
    )
    local = tables["local-bases"].iloc[0]
    assert local["interference_within"] == 0 and local["interference_between"] == 1
    assert tables["gram"]["product"].tolist() == pytest.approx(
        (sets[0].T @ sets[0]).flatten().tolist()
    )
    agrees = tables["findings"]["agrees"].tolist()
    assert agrees == [False, False, True, True, True, True]
    columns = tables["columns"]
    shown = columns[columns["condition"] == "correlated"]
    assert shown["x"].abs().max() == pytest.approx(0.4), "the one with the least loss"
    best = columns[columns["condition"] == "anticorrelated"]
    assert best["feature"].tolist() == ["pair 1, a", "pair 1, b", "pair 2, a", "pair 2, b"]


def test_pairs_find_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """In nine of ten toys; by chance two of three and one of three."""
    kinds = [
        Condition("correlated", 0.1, 0.1, 1.0, 2),
        Condition("anticorrelated", 1.0, 0.5, -1.0, 2),
    ]
    monkeypatch.setattr("analyses.superposition.correlated.HELD_OUT_BATCHES", 1)
    params = CorrelatedParams(steps=400, batch_size=64, lr=0.05, seed=100)
    toys, checks = _train(params, kinds, 20, 4, 2)
    assert all(check.passed for check in checks)
    unit = toys.W / toys.W.norm(dim=1, keepdim=True)
    cosines = (unit[..., ::2] * unit[..., 1::2]).sum(1)  # [instance pair]
    present = toys.W.norm(dim=1).amin(1) > 0.5
    slack = math.sin(math.radians(10))
    assert int((present & (cosines.abs() < slack).all(1))[:20].sum()) >= 18
    assert int((present & (cosines < -math.cos(math.radians(10))).all(1))[20:].sum()) >= 18


@pytest.mark.parametrize(
    ("target", "check"),
    [
        ("group_interference", "interference within and between groups sums to superposition"),
        ("angles_within_groups", "cosines within groups are those of the Gram matrix"),
        ("group_covariance", "covariance of pairs is the formula's"),
    ],
)
def test_checks_notice_a_fault(monkeypatch: pytest.MonkeyPatch, target: str, check: str) -> None:
    right = getattr(groups, target)

    def wrong(*args: Any) -> Any:
        found = right(*args)
        return (found[0] * 1.01, found[1]) if isinstance(found, tuple) else found * 1.1

    W = torch.randn(3, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert all(each.passed for each in (*_identities(W, 2), _covariance_check(0)))
    monkeypatch.setattr(f"analyses.superposition.correlated.{target}", wrong)
    checks = (*_identities(W, 2), _covariance_check(0))
    assert [each.name for each in checks if not each.passed] == [check]


def test_what_is_run_is_what_is_asked_for() -> None:
    result = run_analysis(NAME, **TINY, density=0.3, anticorrelated_density=0.8, seed=5)
    assert result.passed
    pairs = result.tables["pairs"]
    assert pairs["density"].tolist() == [0.3, 0.3, 0.8, 0.4]
    assert pairs["density_of_feature"].tolist() == [0.3, 0.3, 0.4, 0.4]
    assert set(result.tables["pair-toys"]["seed"]) == {5, 6}
    assert result.tables["merging"][["d_hidden", "density"]].to_numpy().tolist() == [
        [2, 0.1], [2, 0.7], [3, 0.1], [3, 0.7],
    ]  # fmt: skip
    with pytest.raises(InputError, match="init_scale"):
        run_analysis(NAME, **TINY, init_scale=0.0)
    for densities in ([0.0, 0.5], [0.5, 0.5], [0.5, 1.5]):
        with pytest.raises(InputError, match="densities"):
            run_analysis(NAME, **(TINY | {"densities": densities}))
