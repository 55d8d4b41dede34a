"""Importance by proximity of a model in half precision: its records are taken in fp32."""

from __future__ import annotations

from collections.abc import Callable

import torch

from interp import HookedTransformer
from interp.attribution.proximity import proximity_hooks, stream_importance


@torch.no_grad()
def test_shares_sum_to_one(make_model: Callable[..., HookedTransformer]) -> None:
    model = make_model(dtype="bfloat16")
    tokens = torch.arange(10).view(2, 5)
    _, cache = model.run_with_cache(tokens, names_filter=proximity_hooks(model))
    for found in stream_importance(cache):
        total = found.total()
        assert total.dtype == torch.float32
        assert float((total - 1).abs().max()) <= 1e-5
