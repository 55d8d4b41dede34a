"""Shares of a logit where norms of the sum, with biases, follow every sublayer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from interp import HookedTransformer
from interp.attribution import direct_logit_attribution
from interp.attribution.direct import hooks_needed


@torch.no_grad()
@pytest.mark.parametrize("final_norm", [False, True])
def test_biases_of_norms_are_among_the_shares(
    final_norm: bool,
    make_model: Callable[..., HookedTransformer],
    assert_close: Callable[..., None],
) -> None:
    model = make_model(dtype="float64", norm_placement="post", final_norm=final_norm)
    tokens = torch.arange(10).view(2, 5)
    logits, cache = model.run_with_cache(tokens, names_filter=hooks_needed(model))
    found = direct_logit_attribution(model, cache, 3, 5)
    assert_close(found.total(), logits[..., 3] - logits[..., 5])
    # What the last sum's norm adds is read as it stands, earlier ones' through the later norms.
    direction = model.W_U[:, 3] - model.W_U[:, 5]
    if not final_norm:
        read = model.blocks[-1].ln2.b @ direction
        x = model.blocks[-1].ln2.w * direction
        scale = cache["blocks.1.ln2.hook_scale"]
        read = read + (model.blocks[-1].ln1.b @ (x - x.mean())) / scale[..., 0]
        x = model.blocks[-1].ln1.w * (x - x.mean())
        scale = scale * cache["blocks.1.ln1.hook_scale"]
        for norm in ("ln2", "ln1"):
            layer = getattr(model.blocks[0], norm)
            read = read + (layer.b @ (x - x.mean())) / scale[..., 0]
            x = layer.w * (x - x.mean())
            scale = scale * cache[f"blocks.0.{norm}.hook_scale"]
        labels = [part.label for part in found.components]
        assert_close(found.values[labels.index("norm_bias")], read)
