"""Attacks on toys: tables against the library, and what must hold of any training."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from analyses import run_analysis
from analyses.superposition.adversarial import without_superposition
from interp.toys import ToyModel

NAME = "superposition-adversarial"
TINY: dict[str, Any] = {
    "steps": 30, "batch_size": 32, "n_features": 8, "d_hidden": 3, "n_densities": 3,
    "sparsest": 0.05, "examples": 20, "lr": 0.02,
}  # fmt: skip


def test_rows_are_of_the_toys_asked_for() -> None:
    result = run_analysis(NAME, **TINY, n_seeds=2)
    assert result.passed
    toys, means = result.tables["toys"], result.tables["by-density"]
    assert len(toys) == 6 and len(means) == 3
    assert means["density"].tolist() == pytest.approx([1.0, 0.05**0.5, 0.05])
    for name in ("vulnerability", "features_per_dimension", "loss"):
        by_hand = [(toys[name][i] + toys[name][i + 1]) / 2 for i in (0, 2, 4)]
        assert means[name].tolist() == pytest.approx(by_hand)
    assert (toys["vulnerability"] >= toys["by_linear_attack"] - 1e-9).all()
    assert (toys["vulnerability"] >= toys["by_random_attack"] - 1e-9).all()
    assert toys["without_superposition"].tolist() == pytest.approx([1.0] * 6)
    raised = (toys["loss_attacked"] - toys["loss"]) * 8 / toys["radius"] ** 2
    assert toys["vulnerability"].tolist() == pytest.approx(raised.tolist())
    assert (toys["amplification"] ** 2).tolist() == pytest.approx(toys["vulnerability"].tolist())
    # Of a uniform feature of density p, a tenth of the mean length; p = 1: E‖x‖ of 8 of them.
    assert toys["radius"][0] == pytest.approx(0.1 * (8 / 3) ** 0.5, rel=0.05)


def test_superposition_makes_vulnerable() -> None:
    """Sparse toys hold more features than dimensions, and an attack does more to them."""
    result = run_analysis(NAME, **(TINY | {"steps": 400, "batch_size": 128, "n_densities": 3}))
    means = result.tables["by-density"]
    assert means["features_per_dimension"].iloc[-1] > 1.5
    assert means["vulnerability"].iloc[-1] > 2
    assert means["vulnerability"].iloc[0] < 1.3


def test_a_model_without_superposition() -> None:
    models = ToyModel(2, 5, 3, dtype=torch.float64)
    plain = without_superposition(models, torch.tensor([0.4, 1.0], dtype=torch.float64))
    assert torch.equal(plain.W[1], torch.eye(3, 5, dtype=torch.float64))
    assert plain.b.tolist() == [[0, 0, 0, 0.2, 0.2], [0, 0, 0, 0.5, 0.5]]
    assert not torch.equal(models.W, plain.W), "the models are left as they were"
    x = torch.rand(2, 4, 5, dtype=torch.float64)
    assert torch.equal(plain(x)[..., :3], x[..., :3])


def test_checks_notice_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    from interp.toys.attacks import Attack, strongest_attack

    def weaker(*args: Any, **kwargs: Any) -> Attack:
        found = strongest_attack(*args, **kwargs)
        half = 0.5 * (found.loss + found.clean)
        return Attack(0.9 * found.delta, half, found.clean)

    monkeypatch.setattr("analyses.superposition.adversarial.strongest_attack", weaker)
    result = run_analysis(NAME, **TINY)
    failed = [each.name for each in result.checks if not each.passed]
    assert failed == [
        "attacks have their length",
        "without superposition an attack raises the error by its squared length",
        "no linear attack exceeds the strongest one found",
    ]
