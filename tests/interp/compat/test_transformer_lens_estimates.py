"""Attribution patching as TransformerLens's demo does it, on the same weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, patching
from interp.attribution import estimate
from tests.covering import every_nth

pytest.importorskip("transformer_lens", reason="needs the extra 'lens'")

Check = Callable[..., None]
RIGHT, WRONG = 3, 8


def _tokens(seed: int) -> Tensor:
    return torch.randint(1, 37, (2, 6), generator=torch.Generator().manual_seed(seed))


CLEAN, CORRUPTED = _tokens(0), _tokens(1)


def _their_caches(bridge: Any, names: list[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Activations and gradients of the corrupted run, by hooks that fill dictionaries."""
    kept: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})

    def keeping(name: str, where: dict[str, Tensor]) -> Any:
        def keep(x: Tensor, hook: Any) -> None:
            where[name] = x.detach().clone()

        return name, keep

    forward, backward = ([keeping(name, where) for name in names] for where in kept)
    with bridge.hooks(fwd_hooks=forward, bwd_hooks=backward):
        logits = bridge(CORRUPTED)
        (logits[:, -1, RIGHT] - logits[:, -1, WRONG]).sum().backward()
    return kept


PARTS = ["resid_pre", "attn_out", "mlp_out", "z", "v", "pattern"]


@pytest.mark.parametrize(
    ("mode", "part"),
    [(mode, part) for i, part in enumerate(PARTS) for mode in every_nth(["plain", "raw"], 2, i)],
)
def test_attribution_patching(
    mode: str, part: str, hf_gpt2: Any, make_bridge: Any, assert_close: Check
) -> None:
    hf_model = hf_gpt2()
    model, bridge = HookedTransformer.from_hf(hf_model), make_bridge(hf_model, mode)
    sites = patching.sites(model, part)
    names = list(sites.hooks)
    _, clean = bridge.run_with_cache(CLEAN)
    corrupted, gradients = _their_caches(bridge, names)
    layers = []
    for name in names:
        product = (clean[name].detach() - corrupted[name]) * gradients[name]
        if part == "pattern":  # batch, head, pos, src_pos
            layers.append(product.sum(-1).permute(2, 1, 0))
        else:
            layers.append(product.sum(-1).movedim(0, -1))
    _, source = model.run_with_cache(CLEAN)
    metric = patching.LogitDiff(RIGHT, WRONG)
    found = estimate(model, CORRUPTED, source, sites, metric)
    assert_close(found.change, torch.stack(layers), f"{part}, {mode}")
    assert found.change.abs().max() > 1e-3
