from __future__ import annotations

from collections.abc import Callable

import torch

from interp import HookedTransformer

Make = Callable[..., HookedTransformer]


def test_queries_and_keys_see_positions_and_values_do_not(make_model: Make) -> None:
    """q = (ln1(x) + W_pos) W_Q + b_Q, k likewise, v = ln1(x) W_V + b_V (Press et al. 2021)."""
    model = make_model(positional_embedding_type="shortformer", dtype="float64")
    tokens = torch.tensor([[3, 1, 4, 1]])
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
        assert torch.equal(cache["resid_pre", 0], cache["hook_embed"])
        attn, ln1 = model.blocks[1].attn, model.blocks[1].ln1
        x = ln1(cache["resid_pre", 1])
        placed = x + model.W_pos[:4]
        for name, read, W, b in (
            ("q", placed, attn.W_Q, attn.b_Q),
            ("k", placed, attn.W_K, attn.b_K),
            ("v", x, attn.W_V, attn.b_V),
        ):
            wanted = torch.einsum("bpd,hde->bphe", read, W) + b
            assert (cache[name, 1] - wanted).abs().max() <= 1e-10


def test_heads_given_inputs_of_their_own_see_positions_too(make_model: Make) -> None:
    model = make_model(positional_embedding_type="shortformer", dtype="float64")
    tokens = torch.tensor([[3, 1, 4, 1]])
    with torch.no_grad():
        plain = model(tokens)
        for name in ("hook_attn_in", "hook_q_input", "hook_k_input"):
            split = model.run_with_hooks(
                tokens, fwd_hooks=[(f"blocks.0.{name}", lambda x, hook: x.clone())]
            )
            assert (split - plain).abs().max() <= 1e-10
