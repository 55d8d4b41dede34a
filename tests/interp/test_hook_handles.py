"""What a handle and `remove_hooks` take away, and what stays."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch

from interp import HookPoint, InputError


def _nothing(x: Any, hook: HookPoint) -> None:
    """Keep the tensor."""


@pytest.mark.parametrize("dir", ["fwd", "bwd"])
def test_a_handle_takes_its_own_hook_away_alone(dir: Literal["fwd", "bwd"]) -> None:
    """The same function three times: handles, not functions, tell hooks apart."""
    point = HookPoint()
    first, second, third = (point.add_hook(_nothing, dir=dir) for _ in range(3))
    other = point.add_hook(_nothing, dir="bwd" if dir == "fwd" else "fwd")
    point.detach(second)
    here, there = point.fwd_hooks, point.bwd_hooks
    here, there = (here, there) if dir == "fwd" else (there, here)
    assert here == [first, third]
    assert there == [other]
    assert point.is_watched


def test_forward_hooks_alone_are_removed_unless_told() -> None:
    point = HookPoint()
    point.add_hook(_nothing)
    backward = point.add_hook(_nothing, dir="bwd")
    point.remove_hooks()
    assert point.fwd_hooks == []
    assert point.bwd_hooks == [backward]


def test_a_point_without_a_name_is_an_identity_and_takes_no_hooks() -> None:
    point, x = HookPoint(), torch.ones(1, 2)
    assert point(x) is x
    point.add_hook(_nothing)
    with pytest.raises(InputError, match="needs a name"):
        point(x)


def test_gradient_hooks_let_whole_numbers_pass() -> None:
    point, numbers = HookPoint(), torch.arange(3)
    point.name = "hook_tokens"
    point.add_hook(_nothing, dir="bwd")
    assert torch.equal(point(numbers), numbers)
    with torch.no_grad():
        assert not point(torch.ones(1)).requires_grad
