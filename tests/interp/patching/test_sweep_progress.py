"""How far a sweep is, told after every batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from interp import HookedTransformer, patching
from interp.progress import listening


@torch.no_grad()
@pytest.mark.parametrize("hooked", [False, True])
def test_shares_rise_to_the_whole(
    hooked: bool, make_model: Callable[..., HookedTransformer]
) -> None:
    model, told = make_model(), []
    if hooked:  # each patched run by itself
        model.add_hook("hook_embed", lambda x, hook: None)
    sites = patching.sites(model, "resid_pre", positions=[1, 3])
    with listening(lambda done, line: told.append((done, line))):
        patching.sweep(model, torch.arange(5)[None], 0.0, sites, patching.Logit(3))
    assert told[-1] == (1.0, "4 of 4 patched runs")
    shares = [done for done, _ in told]
    assert shares == sorted(shares)
    assert shares[0] > 0
    assert len(told) == 4 or not hooked
