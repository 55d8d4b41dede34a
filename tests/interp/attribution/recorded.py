"""Recorded runs whose parts are attributed, and the models that have neurons."""

from __future__ import annotations

import torch
from torch import Tensor

from interp import ActivationCache, HookedTransformer
from tests.interp.kinds import KINDS

TOKENS = torch.randint(31, (3, 7), generator=torch.Generator().manual_seed(0))
WITH_NEURONS = {
    name: fields
    for name, fields in {
        **KINDS,
        # A norm with a bias behind experts, which no kind has.
        "mixture-sandwich": {
            "gated_mlp": True, "num_experts": 4, "experts_per_token": 2,
            "norm_placement": "sandwich",
        },
    }.items()
    if fields.get("head", "lm") == "lm" and not fields.get("attn_only")
}  # fmt: skip


def run(
    model: HookedTransformer, names: list[str] | None = None, mask: Tensor | None = None
) -> tuple[Tensor, ActivationCache]:
    """The logits and the cache of all prompts."""
    with torch.no_grad():
        return model.run_with_cache(TOKENS, names_filter=names, attention_mask=mask)
