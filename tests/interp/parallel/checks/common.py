"""What the checks of two processes that share a model have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from interp import HookedTransformer, HookedTransformerConfig
from interp.errors import InputError
from tests.conftest import _scramble
from tests.interp.kinds import KINDS

# Heads, key/value heads and neurons in numbers that two ranks can share.
USABLE = {
    **{name: fields for name, fields in KINDS.items() if "num_experts" not in fields},
    "wide-heads": {**KINDS["wide-heads"], "n_heads": 2},
    "bloom": {**KINDS["bloom"], "n_heads": 4, "d_head": 6, "n_key_value_heads": 2},
}
del USABLE["multi-query"]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
SMALL = {
    "n_layers": 2, "d_model": 24, "n_ctx": 16, "n_heads": 4, "d_head": 6, "d_mlp": 20,
    "act_fn": "gelu", "d_vocab": 31, "device": "cpu",
}  # fmt: skip
LLAMA = KINDS["llama"]

CHECKS: dict[str, Callable[[Path], float | None]] = {}


class Absent(Exception):
    """What a check needs is not here."""


def check(fn: Callable[[Path], float | None]) -> Callable[[Path], float | None]:
    CHECKS[fn.__name__] = fn
    return fn


def make(dtype: torch.dtype = torch.float64, **fields: Any) -> HookedTransformer:
    given = {**SMALL, **fields, "dtype": dtype}
    if given.get("attn_only"):
        given |= {"d_mlp": None, "act_fn": None}
    return _scramble(HookedTransformer(HookedTransformerConfig(**given)))


def whole(x: Any) -> Tensor:
    return x.full_tensor() if isinstance(x, DTensor) else x


def difference(found: Any, expected: Any, what: str = "", tolerance: float | None = None) -> float:
    """The largest, relative to max(1, max |expected|); more than its dtype's is a fault."""
    found, expected = whole(found).detach(), whole(expected).detach()
    assert type(found) is Tensor, f"{what}: {type(found)}"
    assert found.shape == expected.shape and found.dtype == expected.dtype, what
    if not expected.is_floating_point():
        assert torch.equal(found, expected), what
        return 0.0
    error = error_of(found, expected)
    assert error <= (tolerance or TOLERANCE[expected.dtype]), f"{what}: {error:.1e}"
    return error


def error_of(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to max(1, max |expected|); infinite where one is finite."""
    found, expected = whole(found).detach(), whole(expected).detach()
    finite = expected.isfinite()
    if not torch.equal(finite, found.isfinite()):
        return float("inf")
    a, b = found[finite].double(), expected[finite].double()
    return float((a - b).abs().max()) / max(1.0, float(b.abs().max())) if b.numel() else 0.0


def largest(found: dict[str, Any], expected: dict[str, Any], what: str) -> float:
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    return max(difference(found[n], expected[n], f"{what} {n}") for n in expected)


def refused(by: Callable[[], Any], *said: str, error: type[Exception] = InputError) -> None:
    with pytest.raises(error) as fault:
        by()
    assert all(part in str(fault.value) for part in said), str(fault.value)
