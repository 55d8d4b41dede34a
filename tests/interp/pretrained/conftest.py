"""How a Hugging Face model is watched, so that every step can be compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer


def _watched_run(hf_model: Any, tokens: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
    """A Hugging Face model's residual streams, layer outputs, patterns and logits, by our names."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: Any, args: Any, kwargs: Any, output: Any) -> None:
            seen[name] = output[0] if isinstance(output, tuple) else output

        return hook

    base = hf_model.base_model
    blocks, final = (base.h, base.ln_f) if hasattr(base, "h") else (base.layers, base.norm)
    handles = [final.register_forward_hook(keep("final"), with_kwargs=True)]
    for i, block in enumerate(blocks):
        attn = block.attn if hasattr(block, "attn") else block.self_attn
        for module, name in (
            (block, "hook_resid_post"), (attn, "hook_attn_out"), (block.mlp, "hook_mlp_out"),
        ):  # fmt: skip
            handles.append(
                module.register_forward_hook(keep(f"blocks.{i}.{name}"), with_kwargs=True)
            )
    given: dict[str, Any] = {}
    if mask is not None:
        given = {"attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}
    with torch.no_grad():
        out = hf_model(tokens, **given, output_attentions=True, output_hidden_states=True)
    for handle in handles:
        handle.remove()
    for i, pattern in enumerate(out.attentions):
        seen[f"blocks.{i}.attn.hook_pattern"] = pattern
        seen[f"blocks.{i}.hook_resid_pre"] = out.hidden_states[i]
    seen["logits"] = out.logits
    return seen


@pytest.fixture(scope="session")
def assert_same_run(assert_close: Callable[..., None]) -> Callable[..., None]:
    """A model and the Hugging Face model that it was made from agree on every step.

    With a mask, on what real tokens hold and give.
    """

    def check(
        model: HookedTransformer, hf_model: Any, tokens: Tensor, mask: Tensor | None = None
    ) -> None:
        expected = _watched_run(hf_model, tokens, mask)
        with torch.no_grad():
            logits, cache = model.run_with_cache(tokens, attention_mask=mask)
            fused = model(tokens, attention_mask=mask)
        real = torch.ones_like(tokens).bool() if mask is None else mask.bool()
        final = model.ln_final(cache["resid_post", model.cfg.n_layers - 1])
        assert_close(final[real], expected.pop("final")[real], "final norm")
        assert_close(fused[real], expected["logits"][real], "logits, attention fused")
        assert_close(logits[real], expected.pop("logits")[real], "logits")
        assert len(expected) == 5 * model.cfg.n_layers
        for name, value in expected.items():
            found = cache[name]
            if name.endswith("pattern"):
                found, value = (x.transpose(1, 2) for x in (found, value))
            assert_close(found[real], value[real], name)

    return check


@pytest.fixture(scope="session")
def padded_batch() -> Callable[..., tuple[Tensor, Tensor]]:
    """Rows of 9, 5 and 1 random tokens below `d_vocab`, padded on a side, and their mask."""

    def make(side: str, d_vocab: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(1)
        tokens = torch.randint(d_vocab, (3, 9), generator=generator)
        places = torch.arange(9)
        lengths = torch.tensor([[9], [5], [1]])
        mask = (places < lengths) if side == "right" else (places >= 9 - lengths)
        return tokens, mask.long()

    return make
