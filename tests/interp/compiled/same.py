"""A compiled run has what the model's own run has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from interp import ActivationCache

AssertClose = Callable[..., None]


def assert_same(
    assert_close: AssertClose,
    found: tuple[Any, ActivationCache],
    expected: tuple[Any, ActivationCache],
) -> None:
    assert found[1].keys() == expected[1].keys()
    for name, tensor in expected[1].items():
        assert found[1][name].dtype == tensor.dtype
        if name.endswith("hook_tokens"):
            assert torch.equal(found[1][name], tensor)
        else:
            assert_close(found[1][name], tensor, name)
    if expected[0] is not None:
        assert_close(found[0], expected[0])
