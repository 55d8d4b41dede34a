from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp import HookedTransformer
from interp.components.attention import Attention, GroupedQueryAttention

MakeModel = Callable[..., HookedTransformer]
AssertClose = Callable[..., None]
TOKENS = torch.randint(31, (2, 7), generator=torch.Generator().manual_seed(0))


def test_kind_follows_the_config(make_model: MakeModel) -> None:
    plain = make_model().blocks[0].attn
    grouped = make_model(n_key_value_heads=2).blocks[0].attn
    assert type(plain) is Attention
    assert type(grouped) is GroupedQueryAttention
    assert plain.W_K.shape == grouped.W_K.shape == (4, 24, 6)
    assert grouped._W_K.shape == (2, 24, 6)
    assert grouped.b_V.shape == (4, 6)


def test_grouped_heads_share_in_order(make_model: MakeModel) -> None:
    """Query heads 0 and 1 read key/value head 0, heads 2 and 3 head 1."""
    attn = make_model(n_key_value_heads=2).blocks[0].attn
    for head in range(4):
        assert torch.equal(attn.W_V[head], attn._W_V[head // 2])
        assert torch.equal(attn.b_K[head], attn._b_K[head // 2])


def test_grouped_is_ungrouped_with_repeated_weights(
    make_model: MakeModel, assert_close: AssertClose
) -> None:
    fields: dict[str, Any] = {"dtype": "float64", "positional_embedding_type": "rotary"}
    grouped = make_model(n_key_value_heads=2, **fields)
    plain = make_model(**fields)
    state = dict(grouped.state_dict())
    for name in [n for n in state if "._" in n]:
        state[name.replace("._", ".")] = state.pop(name).repeat_interleave(2, 0)
    plain.load_state_dict(state)
    assert_close(grouped(TOKENS), plain(TOKENS))
    _, cache = grouped.run_with_cache(TOKENS)
    _, expected = plain.run_with_cache(TOKENS)
    for name in ("q", "rot_q", "attn_scores", "pattern", "z"):
        assert_close(cache[name, 1], expected[name, 1], name)
    for name in ("k", "v", "rot_k"):
        assert cache[name, 1].shape == (2, 7, 2, 6)
        assert_close(cache[name, 1].repeat_interleave(2, 2), expected[name, 1], name)


def test_ungrouped_hooks_have_one_entry_per_query_head(
    make_model: MakeModel, assert_close: AssertClose
) -> None:
    model = make_model(n_key_value_heads=2, dtype="float64")
    logits = model(TOKENS)
    model.set_ungroup_grouped_query_attention(True)
    out, cache = model.run_with_cache(TOKENS)
    assert cache["k", 0].shape == cache["v", 0].shape == (2, 7, 4, 6)
    assert_close(out, logits)
    zeroed = model.run_with_hooks(
        TOKENS,
        fwd_hooks=[("blocks.0.attn.hook_v", lambda v, hook: v.index_fill(2, torch.tensor(3), 0.0))],
    )
    assert (zeroed - logits).abs().max() > 1e-3


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_circuits(kv_heads: int, make_model: MakeModel, assert_close: AssertClose) -> None:
    attn = make_model(n_key_value_heads=kv_heads, dtype="float64").blocks[1].attn
    assert_close(attn.OV.AB, attn.W_V @ attn.W_O)
    assert_close(attn.QK.AB, attn.W_Q @ attn.W_K.mT)


def test_results_sum_to_the_output(make_model: MakeModel, assert_close: AssertClose) -> None:
    model = make_model(dtype="float64", n_key_value_heads=2)
    names = ["blocks.1.attn.hook_result", "blocks.1.hook_attn_out", "blocks.1.attn.hook_z"]
    _, cache = model.run_with_cache(TOKENS, names_filter=names)
    attn = model.blocks[1].attn
    assert_close(cache["result", 1].sum(2) + attn.b_O, cache["attn_out", 1])
    assert_close(attn.head_results(cache["z", 1]), cache["result", 1])


def test_patterns_are_distributions_over_the_past(make_model: MakeModel) -> None:
    model = make_model(dtype="float64")
    mask = torch.tensor([[1] * 7, [0] * 3 + [1] * 4])
    _, cache = model.run_with_cache(TOKENS, attention_mask=mask)
    pattern = cache["pattern", 0]
    real = mask.bool()
    sums = pattern.sum(-1)
    assert torch.allclose(sums[0], torch.ones_like(sums[0]), rtol=0, atol=1e-12)
    assert torch.allclose(sums[1][:, real[1]], torch.ones(4, 4).double(), rtol=0, atol=1e-12)
    assert (sums[1][:, ~real[1]] == 0).all()
    assert (pattern.triu(1) == 0).all()
    assert (pattern[1, :, :, ~real[1]] == 0).all()


def test_gradients_are_the_same_on_both_paths(
    make_model: MakeModel, assert_close: AssertClose
) -> None:
    """Fused and explicit, with padding on the left whose rows see nothing."""
    model = make_model(dtype="float64", n_key_value_heads=2, positional_embedding_type="rotary")
    mask = torch.tensor([[1] * 7, [0] * 3 + [1] * 4])
    gradients = []
    for names in (["hook_embed"], None):
        model.zero_grad()
        loss, _ = model.run_with_cache(
            TOKENS, attention_mask=mask, return_type="loss", names_filter=names
        )
        loss.backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert gradient.isfinite().all(), name
        assert_close(gradients[1][name], gradient, name)
