"""What the shares of a logit are called."""

from __future__ import annotations

from collections.abc import Callable

import torch

from interp import HookedTransformer
from interp.attribution import direct_logit_attribution
from interp.attribution.direct import hooks_needed
from tests.interp.kinds import KINDS, given_to


@torch.no_grad()
def test_every_part_has_its_label(make_model: Callable[..., HookedTransformer]) -> None:
    model = make_model(n_heads=2, d_head=12)
    _, cache = model.run_with_cache(torch.arange(3)[None], names_filter=hooks_needed(model))
    labels = [part.label for part in direct_logit_attribution(model, cache, 3).components]
    assert labels == [
        "embed", "pos_embed", "L0H0", "L0H1", "L0MLP", "L1H0", "L1H1", "L1MLP", "b_O",
        "ln_final.b", "b_U",
    ]  # fmt: skip


@torch.no_grad()
def test_cross_attention_has_a_letter_of_its_own(
    make_model: Callable[..., HookedTransformer],
) -> None:
    model = make_model(**{**KINDS["t5"], "n_heads": 2, "d_head": 12})
    _, cache = model.run_with_cache(**given_to(model), names_filter=hooks_needed(model))
    parts = direct_logit_attribution(model, cache, 3).components
    labels = [part.label for part in parts if part.layer is not None]
    assert labels == ["L0H0", "L0H1", "L0C0", "L0C1", "L0MLP"]
