from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp import HookedTransformer, HookedTransformerConfig
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


def test_worked_numbers_of_scores_and_mask() -> None:
    """Q Kᵀ of three tokens by hand; the mask comes before the softmax, so rows still sum to one."""
    Q = torch.tensor([[0.3, -2, 0.4, 6], [-1, 1.5, 0.2, 3], [0.3, -1, 0.2, 1]], dtype=torch.float64)
    K = torch.tensor(
        [[-0.5, 1.7, 0.3, 4], [0.4, -1.5, 0.3, 5.5], [-1, -3.5, 1, 4]], dtype=torch.float64
    )
    V = torch.arange(12.0, dtype=torch.float64).view(3, 4)
    for attention_dir in ("bidirectional", "causal"):
        cfg = HookedTransformerConfig(
            n_layers=1,
            d_model=12,
            n_heads=1,
            d_head=4,
            n_ctx=3,
            attn_only=True,
            use_attn_scale=False,
            attention_dir=attention_dir,
            normalization_type=None,
            positional_embedding_type="none",
            d_vocab=3,
            dtype=torch.float64,
            device="cpu",
        )
        model = HookedTransformer(cfg)
        attn = model.blocks[0].attn
        with torch.no_grad():
            # Token i is the i-th unit vector, so that W_Q holds the queries themselves.
            model.W_E.copy_(torch.eye(3, 12))
            for weight, rows in ((attn.W_Q, Q), (attn.W_K, K), (attn.W_V, V)):
                weight.zero_()
                weight[0, :3] = rows
            _, cache = model.run_with_cache(torch.tensor([[0, 1, 2]]))
        scores = torch.tensor(
            [[20.57, 36.24, 31.10], [15.11, 13.91, 7.95], [2.21, 7.18, 7.40]], dtype=torch.float64
        )
        seen = torch.ones(3, 3).bool()
        if attention_dir == "causal":
            seen = seen.tril()
        found = cache["attn_scores", 0][0, 0]
        assert (found - scores)[seen].abs().max() <= 1e-10
        assert (found[~seen] == -torch.inf).all()
        raised = torch.tensor(
            [[math.exp(scores[q, k]) if seen[q, k] else 0.0 for k in range(3)] for q in range(3)],
            dtype=torch.float64,
        )
        pattern = raised / raised.sum(-1, keepdim=True)
        assert (cache["pattern", 0][0, 0] - pattern).abs().max() <= 1e-10
        assert (cache["z", 0][0, :, 0] - cache["pattern", 0][0, 0] @ V).abs().max() <= 1e-10
        assert (cache["pattern", 0].sum(-1) - 1).abs().max() <= 1e-12
