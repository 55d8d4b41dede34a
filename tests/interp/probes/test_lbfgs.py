"""L-BFGS beside the matrix that its recursion stands for, and what a quadratic costs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp.probes.lbfgs import _direction, minimise


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def quadratic(curvature: Tensor, linear: Tensor) -> tuple[Callable[..., Any], list[list[int]]]:
    """½xᵀAx - bᵀx of every problem, and which sites each evaluation was of."""
    asked: list[list[int]] = []

    def evaluate(x: Tensor, sites: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        asked.append(sites.tolist())
        product = torch.einsum("sij,soj->soi", curvature[sites], x)
        gradient = product - linear[sites]
        value = (x * (product / 2 - linear[sites])).sum(-1)
        return value, gradient, gradient.abs().amax(-1)

    return evaluate, asked


def test_the_recursion_is_the_bfgs_matrix(assert_close: Any) -> None:
    """H ← (I - ρsyᵀ) H (I - ρysᵀ) + ρssᵀ from γI on (Nocedal & Wright 2006, eq. 6.17, 7.20)."""
    n, root = 7, normal(2, 3, 7, 7)
    curvature = root @ root.mT + torch.eye(7, dtype=torch.float64)
    gradient, pairs = normal(2, 3, n, seed=9), []
    for k in range(5):
        step = normal(2, 3, n, seed=k + 1)
        change = (curvature @ step[..., None])[..., 0]
        inverse = 1 / (step * change).sum(-1)
        if k == 2:
            inverse[1, 0] = 0  # one problem's pair of no use
        pairs.append((step, change, inverse))
    for site in range(2):
        for option in range(3):
            ours = [tuple(x[site, option] for x in pair) for pair in pairs]
            step, change, inverse = ours[-1]
            identity = torch.eye(n, dtype=torch.float64)
            H = identity / (inverse * change.square().sum())
            for s, y, rho in ours:
                left = identity - rho * torch.outer(s, y)
                H = left @ H @ left.T + rho * torch.outer(s, s)
            assert_close(H @ change, step)  # the secant equation, of the oracle
            found = _direction(gradient, pairs)[site, option]
            assert_close(found, -H @ gradient[site, option])


@pytest.mark.parametrize("spread", [1.0, 10.0, 100.0])
def test_quadratics_cost_no_more_steps_than_scipy_needs(assert_close: Any, spread: float) -> None:
    """Whose L-BFGS-B has another line search; where the curvature is 1 throughout one step does."""
    optimize = pytest.importorskip("scipy.optimize", reason="needs the extra 'dev'")
    n = 30
    turn = torch.linalg.qr(normal(3, n, n))[0]
    eigenvalues = torch.logspace(0, -float(torch.tensor(spread).log10()), n, dtype=torch.float64)
    curvature = turn @ (eigenvalues[:, None] * turn.mT)
    linear = normal(3, 2, n, seed=1)
    evaluate, asked = quadratic(curvature, linear)
    found = minimise(evaluate, torch.zeros_like(linear), 1e-8, 500)
    theirs = []
    for site in range(3):
        for option in range(2):
            A, b = curvature[site].numpy(), linear[site, option].numpy()
            options = {"gtol": 1e-8, "ftol": 0, "maxiter": 500, "maxcor": 10}
            of_scipy = optimize.minimize(
                lambda x, A=A, b=b: (x @ A @ x / 2 - b @ x, A @ x - b),
                b * 0, jac=True, method="L-BFGS-B", options=options,
            )  # fmt: skip
            theirs.append((of_scipy.nit, of_scipy.nfev))
    assert (found.largest <= 1e-8).all()
    assert found.steps <= (1 if spread == 1 else 1.35 * max(steps for steps, _ in theirs))
    assert len(asked) <= 1.35 * max(calls for _, calls in theirs)
    assert_close(found.point, torch.linalg.solve(curvature, linear.mT).mT, tolerance=1e-5)


def test_problems_end_by_themselves() -> None:
    """A site that is done is asked no more, and what its neighbours need changes nothing."""
    curvature = torch.stack([torch.diag(torch.linspace(x, 1, 12)) for x in (1.0, 1.0, 0.01)])
    curvature, linear = curvature.double(), normal(3, 2, 12)
    linear[1] = 0  # begins where it ends
    evaluate, asked = quadratic(curvature, linear)
    found = minimise(evaluate, torch.zeros_like(linear), 1e-10, 500)
    assert asked[0] == [0, 1, 2] and asked[-1] == [2]
    assert torch.equal(found.point[1], torch.zeros(2, 12, dtype=torch.float64))
    evaluate, _ = quadratic(curvature[2:], linear[2:])
    alone = minimise(evaluate, torch.zeros_like(linear[2:]), 1e-10, 500)
    assert alone.steps == found.steps
    assert (alone.point - found.point[2:]).abs().max() <= 1e-12


@pytest.mark.parametrize("memory", [1, 3])
def test_no_more_pairs_are_kept_than_asked(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []

    def spied(gradient: Tensor, pairs: list[Any]) -> Tensor:
        kept.append(len(pairs))
        return _direction(gradient, pairs)

    monkeypatch.setattr("interp.probes.lbfgs._direction", spied)
    evaluate, _ = quadratic(torch.diag(torch.linspace(0.1, 1, 9)).double()[None], normal(1, 1, 9))
    found = minimise(evaluate, normal(1, 1, 9, seed=2), 1e-9, 200, memory)
    assert (found.largest <= 1e-9).all()
    assert max(kept) == memory


def test_too_few_steps_are_told() -> None:
    evaluate, _ = quadratic(torch.diag(torch.linspace(0.1, 1, 9)).double()[None], normal(1, 1, 9))
    found = minimise(evaluate, normal(1, 1, 9, seed=2), 1e-9, 3)
    assert found.steps == 3 and float(found.largest) > 1e-9


def test_steps_that_rise_are_shortened() -> None:
    """Curvature above 1: the first step overshoots, and is tried again, shorter."""
    evaluate, _ = quadratic(torch.diag(torch.linspace(1, 400, 9)).double()[None], normal(1, 1, 9))
    points, values = [], []

    def watched(x: Tensor, sites: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = evaluate(x, sites)
        points.append(x[0, 0])
        values.append(float(found[0]))
        return found

    found = minimise(watched, normal(1, 1, 9, seed=2), 1e-9, 200)
    assert (found.largest <= 1e-9).all()
    assert values[1] > values[0], "as it was planted"
    first, second = points[1] - points[0], points[2] - points[0]
    share = float((first @ second) / (first @ first))
    assert 0.1 - 1e-12 <= share <= 0.5 + 1e-12
    assert (second - share * first).abs().max() <= 1e-9 * first.abs().max()
