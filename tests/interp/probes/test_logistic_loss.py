"""The loss beside its formula by autograd, and what a change of its coordinates leaves alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from interp.errors import InputError
from interp.probes.logistic_loss import LogisticLoss

CS = (0.1, 5.0)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some_loss(n_classes: int) -> tuple[LogisticLoss, Tensor, Tensor]:
    x = normal(2, 30, 4)
    x -= x.mean(1, keepdim=True)
    labels = torch.arange(30) * 7 % n_classes
    return LogisticLoss(x, labels, n_classes, CS, ["a", "b"]), x, labels


def formula(x: Tensor, labels: Tensor, C: float, w: Tensor) -> Tensor:
    """J of weights and intercepts `[dim + 1, output]`."""
    outputs = x @ w[:-1] + w[-1]
    if outputs.shape[1] == 1:
        outputs = torch.cat([torch.zeros_like(outputs), outputs], 1)
    losses = torch.nn.functional.cross_entropy(outputs, labels, reduction="sum")
    return C * losses + w[:-1].square().sum() / 2


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("sites", [[0, 1], [1]])
def test_values_and_gradients(n_classes: int, sites: list[int]) -> None:
    loss, x, labels = some_loss(n_classes)
    at = torch.tensor(sites)
    u = torch.randn_like(loss.origin()[at])
    value, gradient, largest = loss.evaluate(u, at)
    weights, bias = loss.unpacked(u, at)
    for i, site in enumerate(sites):
        for c, C in enumerate(CS):
            w = torch.cat([weights[i, c], bias[i, c][None]]).requires_grad_()
            J = formula(x[site], labels, C, w)
            (of_w,) = torch.autograd.grad(J, w)
            assert float(value[i, c]) == pytest.approx(float(J.detach()), rel=1e-12)
            in_u = torch.linalg.solve(loss.factor[site, c], of_w).flatten()
            assert (gradient[i, c] - in_u).abs().max() <= 1e-10
            assert float(largest[i, c]) == pytest.approx(float(of_w.abs().max()) / (C * 30))


def test_the_hessian_is_that_of_one_problem_and_leaves_the_others_alone() -> None:
    loss, x, labels = some_loss(2)
    u = normal(*loss.origin().shape, seed=1)
    before, bounds = u.clone(), loss.factor.clone()
    weights, bias = loss.unpacked(u)
    loss.use_hessian(u, [(1, 0)])
    w = torch.cat([weights[1, 0], bias[1, 0][None]])
    hessian = torch.autograd.functional.hessian(
        lambda w: formula(x[1], labels, CS[0], w[:, None]), w[:, 0]
    )
    factor = loss.factor[1, 0]
    assert (factor @ factor.mT - hessian).abs().max() <= 1e-12
    assert (loss.unpacked(u)[0] - weights).abs().max() <= 1e-12, "the same weights"
    others = torch.ones(2, 2, dtype=torch.bool)
    others[1, 0] = False
    assert torch.equal(u[others], before[others])
    assert torch.equal(loss.factor[others], bounds[others])


def test_a_hessian_without_a_factor_leaves_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    loss, _, _ = some_loss(2)
    u = normal(*loss.origin().shape, seed=1)
    before, bounds = u.clone(), loss.factor.clone()
    negative = -torch.eye(5, dtype=torch.float64)
    monkeypatch.setattr("interp.probes.logistic_loss.hessian_at", lambda *_: negative)
    loss.use_hessian(u, [(0, 0)])
    assert torch.equal(u, before) and torch.equal(loss.factor, bounds)


def test_a_penalty_lost_to_rounding_is_refused() -> None:
    x = normal(2, 30, 4)
    x[1, :, 3] = x[1, :, 2]
    with pytest.raises(InputError, match=r"C must be small enough .* Received 1e\+18 at 'b'"):
        LogisticLoss(x, torch.arange(30) % 2, 2, (1.0, 1e18), ["a", "b"])
