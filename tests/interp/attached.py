"""What is attached to a model, and hooks to attach."""

from __future__ import annotations

import torch
from torch import Tensor

from interp import HookedTransformer, HookPoint

TOKENS = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])

PRE, POST = "blocks.1.hook_resid_pre", "blocks.0.hook_resid_post"

PATTERN = "blocks.0.attn.hook_pattern"


def attached(model: HookedTransformer) -> dict[str, int]:
    """How much is attached where; empty for a clean model."""
    counts = {
        name: len(p.fwd_hooks) + len(p.bwd_hooks) + (p.recorder is not None)
        for name, p in model.hook_dict.items()
    }
    for name, point in model.hook_dict.items():
        assert point.is_watched == bool(counts[name]), name
    assert model.watched_hooks()[0] == {n for n, c in counts.items() if c}
    return {n: c for n, c in counts.items() if c}


def zero(x: Tensor, hook: HookPoint) -> None:
    x.zero_()


def double(x: Tensor, hook: HookPoint) -> Tensor:
    return x * 2
