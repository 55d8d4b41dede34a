"""What gradient hooks on one hook point may rely on from one another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer

TOKENS = torch.arange(10).view(2, 5)
NAME = "blocks.1.hook_resid_pre"


def _zero(gradient: Tensor, hook: Any) -> None:
    gradient.zero_()


@pytest.mark.parametrize("as_tuple", [False, True])
@pytest.mark.parametrize("later", [NAME, "blocks.0.hook_resid_post", "blocks.0.hook_mlp_out"])
def test_what_a_gradient_hook_returned_is_not_written_into(
    later: str, as_tuple: bool, make_model: Callable[..., HookedTransformer]
) -> None:
    model = make_model()
    mine = torch.ones(2, 5, model.cfg.d_model)
    seen: list[Tensor] = []

    def give(gradient: Tensor, hook: Any) -> Any:
        return (mine,) if as_tuple else mine

    def keep(gradient: Tensor, hook: Any) -> None:
        seen.append(gradient.clone())

    bwd_hooks = [(NAME, give), (later, keep), (later, _zero), (later, keep)]
    model.run_with_hooks(TOKENS, return_type="loss", bwd_hooks=bwd_hooks).backward()
    assert torch.equal(mine, torch.ones_like(mine))
    first, after = seen
    assert torch.equal(first, mine)
    assert not after.any()


def test_a_gradient_hook_may_return_what_it_was_given(
    make_model: Callable[..., HookedTransformer],
) -> None:
    model, seen = make_model(), []
    hooks = [
        (NAME, lambda gradient, hook: gradient),
        (NAME, lambda gradient, hook: gradient.fill_(3)),
        (NAME, lambda gradient, hook: seen.append(gradient.clone())),
    ]
    model.run_with_hooks(TOKENS, return_type="loss", bwd_hooks=hooks).backward()
    assert torch.equal(seen[0], torch.full_like(seen[0], 3.0))
