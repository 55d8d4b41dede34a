"""The loss beside its formula, for every power, and its gradient at an error of zero."""

from __future__ import annotations

import pytest
import torch

from interp.errors import InputError
from interp.toys import Batch, ReconstructionLoss, geometric_importance


def test_the_loss_is_its_formula_for_each_instance() -> None:
    importance, power = torch.rand(3, 5), torch.tensor([2.0, 1.0, 4.5])
    loss = ReconstructionLoss.of(3, 5, importance, power=power, dtype=torch.float64)
    x, out = torch.rand(2, 3, 7, 5, dtype=torch.float64)
    out[1, 2, 3] = x[1, 2, 3]
    out.requires_grad_()
    found = loss(out, Batch(x, x))
    for i in range(3):
        terms = [
            importance[i, j].double() * (out[i, b, j] - x[i, b, j]).abs() ** float(power[i])
            for b in range(7)
            for j in range(5)
        ]
        assert float((found[i] - sum(terms) / 35).abs()) < 1e-14
        assert (
            float(
                (
                    loss.select(torch.tensor([i]))(
                        out[i : i + 1], Batch(x[i : i + 1], x[i : i + 1])
                    )
                    - found[i]
                ).abs()
            )
            < 1e-14
        )
    found.sum().backward()
    assert out.grad is not None
    assert bool(out.grad.isfinite().all())
    assert not bool(out.grad[1, 2, 3].any())


def test_squares_and_powers_agree() -> None:
    x, out = torch.rand(2, 1, 7, 5, dtype=torch.float64)
    squared = ReconstructionLoss.of(1, 5, dtype=torch.float64)
    nearly = ReconstructionLoss.of(1, 5, power=2 + 1e-13, dtype=torch.float64)
    assert float((squared(out, Batch(x, x)) - nearly(out, Batch(x, x))).abs()) < 1e-12


def test_importance_curves_and_bad_values() -> None:
    assert geometric_importance(3, 0.5).tolist() == [1, 0.5, 0.25]
    with pytest.raises(InputError, match="ratio"):
        geometric_importance(3, 0)
    with pytest.raises(InputError, match="importance must not be negative"):
        ReconstructionLoss.of(2, 3, -1.0)
    with pytest.raises(InputError, match="power must be at least 1"):
        ReconstructionLoss.of(2, 3, power=0.5)
    with pytest.raises(InputError, match="dtype must be one of"):
        ReconstructionLoss.of(2, 3, dtype=torch.float16)
    with pytest.raises(InputError, match="importance must broadcast"):
        ReconstructionLoss.of(2, 3, torch.ones(2))
