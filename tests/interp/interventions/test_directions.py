"""Steering and subspace swaps against what their formulas say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp import HookedTransformer, InputError
from interp.interventions import Place, Reference, RemoveSubspace, Steer, SwapSubspace, hooks_for
from tests.interp.interventions.loop import edited, recorded
from tests.interp.kinds import some_tokens

HOOK = "blocks.1.hook_resid_pre"
PLACE = Place("resid_pre", layers=1, positions=[1, -1])


@pytest.fixture
def model(kind: Callable[[str], HookedTransformer]) -> HookedTransformer:
    return kind("gpt2")


def run(model: HookedTransformer, item: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.run_with_hooks(some_tokens(), fwd_hooks=hooks_for(model, item))


@pytest.mark.parametrize("relative", [False, True])
def test_steering(model: HookedTransformer, relative: bool, assert_close: Any) -> None:
    direction = torch.randn(24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def steer(x: torch.Tensor) -> torch.Tensor:
        for row in range(3):
            for pos in (1, 4):
                size = x[row, pos].norm() / direction.norm() if relative else 1.0
                x[row, pos] += -2.5 * size * direction
        return x

    expected = edited(model, {"input": some_tokens()}, **{HOOK: steer})
    assert_close(run(model, Steer(PLACE, direction, -2.5, relative)), expected)


def test_swapping_a_subspace(model: HookedTransformer, assert_close: Any) -> None:
    generator = torch.Generator().manual_seed(2)
    basis = torch.randn(3, 24, generator=generator, dtype=torch.float64)
    other = recorded(model, HOOK, input=some_tokens(seed=5))
    # The projector from the normal equations.
    projector = basis.T @ torch.linalg.inv(basis @ basis.T) @ basis

    def swap(x: torch.Tensor) -> torch.Tensor:
        for row in range(3):
            for pos in (1, 4):
                x[row, pos] += projector @ (other[row, pos] - x[row, pos])
        return x

    expected = edited(model, {"input": some_tokens()}, **{HOOK: swap})
    item = SwapSubspace(PLACE, basis, Reference(some_tokens(seed=5)))
    assert_close(run(model, item), expected)
    # Any basis of the space gives the same; the whole space is a patch.
    mixed = torch.randn(3, 3, generator=generator, dtype=torch.float64) @ basis
    assert_close(run(model, SwapSubspace(PLACE, mixed, item.reference)), expected)
    whole = SwapSubspace("hook_embed", torch.eye(24).double(), item.reference)
    with torch.no_grad():
        assert_close(run(model, whole), model(some_tokens(seed=5)))


@pytest.mark.parametrize("centred", [False, True])
def test_removing_a_subspace(model: HookedTransformer, centred: bool, assert_close: Any) -> None:
    generator = torch.Generator().manual_seed(3)
    basis = torch.randn(3, 24, generator=generator, dtype=torch.float64)
    mean = torch.randn(24, generator=generator, dtype=torch.float64) if centred else None
    # What is at right angles to the subspace, from the null space of the basis.
    kept = torch.linalg.svd(basis).Vh[3:]

    def remove(x: torch.Tensor) -> torch.Tensor:
        for row in range(3):
            for pos in (1, 4):
                left = kept.T @ (kept @ x[row, pos])
                x[row, pos] = left if mean is None else left + mean - kept.T @ (kept @ mean)
        return x

    expected = edited(model, {"input": some_tokens()}, **{HOOK: remove})
    item = RemoveSubspace(PLACE, basis, mean)
    assert_close(run(model, item), expected)
    assert_close(run(model, [item, item]), expected)  # gone is gone
    whole = RemoveSubspace(HOOK, torch.eye(24).double(), mean)
    put_in = torch.zeros(24, dtype=torch.float64) if mean is None else mean
    by_hand = edited(model, {"input": some_tokens()}, **{HOOK: lambda x: put_in.expand_as(x)})
    assert_close(run(model, whole), by_hand)


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: Steer("z", torch.zeros(6)), "must not be zero"),
        (lambda: Steer("z", torch.ones(2, 6)), "must have 1 axes"),
        (lambda: Steer("z", torch.tensor([1.0, float("inf")])), "finite numbers"),
        (lambda: Steer("z", "left"), "must be a tensor of numbers"),
        (lambda: Steer("z", torch.ones(6), float("nan")), "coefficient must be a finite"),
        (lambda: Steer("z", torch.ones(6), relative=1), "relative must be True or False"),
        (lambda: Steer("z", torch.ones(5)), "direction at blocks.0.attn.hook_z must have 6 dims"),
        (lambda: Steer("pattern", torch.ones(5)), "no meaning at hook_pattern"),
        (lambda: Steer(Place("z", dims=1), torch.ones(6)), "is one of all dims"),
        (lambda: SwapSubspace("z", torch.ones(2, 6), [[1]]), "independent.* These 2 span 1 of 6"),
        (lambda: SwapSubspace("z", torch.ones(1, 5), some_tokens()), "must have 6 dims"),
        (lambda: RemoveSubspace("z", torch.ones(2, 6)), "independent.* These 2 span 1 of 6"),
        (lambda: RemoveSubspace("z", torch.ones(1, 5)), "must have 6 dims"),
        (lambda: RemoveSubspace("z", torch.ones(1, 6), torch.ones(5)), "as many dims.* 5"),
    ],
)  # fmt: skip
def test_refusals(model: HookedTransformer, make: Callable[[], Any], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        run(model, make())
