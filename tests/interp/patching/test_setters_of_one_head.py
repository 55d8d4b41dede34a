"""A setter of one's own may change one head at one position alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from interp import HookedTransformer, patching


@torch.no_grad()
def test_as_a_run_with_that_head_set(
    make_model: Callable[..., HookedTransformer], assert_close: Callable[..., None]
) -> None:
    """The last head at each position: what is run again begins there, not at the head's number."""
    model, metric = make_model(dtype="float64"), patching.LogitDiff(3, 5)
    tokens = torch.arange(10).view(2, 5)
    _, clean = model.run_with_cache(tokens + 1, names_filter="blocks.*.attn.hook_z")

    def put(corrupted: Tensor, index: Sequence[int], source: Tensor) -> Tensor:
        corrupted[:, index[1], 3] = source[:, index[1], 3]
        return corrupted

    found = patching.generic_activation_patch(
        model, tokens, clean, metric, put, "z", ("layer", "pos")
    )
    for layer in range(2):
        name = f"blocks.{layer}.attn.hook_z"
        for pos in range(5):

            def edit(x: Tensor, hook: Any, name: str = name, pos: int = pos) -> None:
                x[:, pos, 3] = clean[name][:, pos, 3]

            logits = model.run_with_hooks(tokens, fwd_hooks=[(name, edit)])
            assert_close(found[layer, pos], metric(logits), f"{name} at {pos}")
