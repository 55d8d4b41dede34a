"""Runs in pieces, with a key/value cache, are the run of the whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError, KeyValueCache

MakeModel = Callable[..., HookedTransformer]
AssertClose = Callable[..., None]
LLAMA = {
    "normalization_type": "RMS", "positional_embedding_type": "rotary", "gated_mlp": True,
    "act_fn": "silu", "n_key_value_heads": 2,
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "llama": LLAMA,
    "one-kv-head": {**LLAMA, "n_key_value_heads": 1, "tie_word_embeddings": True},
    "gpt-j": {
        "positional_embedding_type": "rotary", "rotary_dim": 4, "rotary_adjacent_pairs": True,
        "parallel_attn_mlp": True, "rotary_base": 50.0, "act_fn": "gelu_fast",
    },
    "neox": {"positional_embedding_type": "rotary", "rotary_dim": 2, "parallel_attn_mlp": True},
    "attn-only": {"attn_only": True, "normalization_type": None, "n_layers": 3},
    "attn-only-grouped": {"attn_only": True, "n_key_value_heads": 2, "attn_scale": 1.7},
    "solu": {"act_fn": "solu", "normalization_type": "LNPre"},
    "solu_ln": {"act_fn": "solu_ln"},
    "solu_ln-pre": {"act_fn": "solu_ln", "normalization_type": "LNPre"},
    "solu_ln-bare": {"act_fn": "solu_ln", "normalization_type": None},
    "rms-pre": {"normalization_type": "RMSPre", "act_fn": "relu", "eps": 0.1},
    "gated-ln": {"gated_mlp": True, "act_fn": "gelu_new", "eps": 0.1},
    "no-positions": {"positional_embedding_type": "none", "scale_attn_by_inverse_layer_idx": True},
    "encoder": {"attention_dir": "bidirectional", "use_attn_scale": False},
    "encoder-rotary": {**LLAMA, "attention_dir": "bidirectional"},
    "wide-out": {"d_vocab_out": 35, "tie_word_embeddings": False, "d_head": 3},
    "no-layers": {"n_layers": 0},
    "ungrouped": {**LLAMA, "ungroup_grouped_query_attention": True},
}  # fmt: skip


def _tokens(batch: int = 3, n: int = 9, seed: int = 0) -> Tensor:
    return torch.randint(31, (batch, n), generator=torch.Generator().manual_seed(seed))


def _masks(side: str) -> tuple[Tensor, list[slice]]:
    """Rows of 9, 4 and 1 tokens."""
    lengths = (9, 4, 1)
    places = [slice(0, n) if side == "right" else slice(9 - n, 9) for n in lengths]
    mask = torch.zeros(3, 9, dtype=torch.long)
    for i, place in enumerate(places):
        mask[i, place] = 1
    return mask, places


@pytest.mark.parametrize("fields", [{}, LLAMA, VARIANTS["one-kv-head"]], ids=str)
@pytest.mark.parametrize("cuts", [(1,) * 9, (4, 5), (2, 1, 6), (9,)], ids=str)
@pytest.mark.parametrize("padded", [True, False], ids=["padded", "whole"])
@pytest.mark.parametrize("watched", [True, False], ids=["explicit", "fused"])
def test_in_pieces_with_a_key_value_cache(
    fields: dict[str, Any],
    cuts: tuple[int, ...],
    padded: bool,
    watched: bool,
    make_model: MakeModel,
    assert_close: AssertClose,
) -> None:
    model = make_model(dtype="float64", **fields)
    tokens, (mask, _) = _tokens(), _masks("left")
    mask = mask if padded else torch.ones_like(mask)
    whole = model(tokens, attention_mask=mask if padded else None)
    past = KeyValueCache.init_cache(model.cfg, "cpu", 3)
    pieces, start = [], 0
    for n in cuts:
        piece = slice(start, start + n)
        piece_mask = mask[:, piece] if padded else None
        args = {"attention_mask": piece_mask, "past_kv_cache": past}
        if watched:
            out, cache = model.run_with_cache(tokens[:, piece], **args)
            assert cache["pattern", 0].shape == (3, 4, n, start + n)
        else:
            out = model(tokens[:, piece], **args)
        pieces.append(out)
        start += n
        assert len(past) == start
    assert_close(torch.cat(pieces, 1)[mask.bool()], whole[mask.bool()])


def test_cache_takes_padding_only_later(make_model: MakeModel, assert_close: AssertClose) -> None:
    """A mask in the second run only, with a hole in it."""
    model = make_model(dtype="float64", **LLAMA)
    tokens = _tokens(2, 8)
    past = KeyValueCache.init_cache(model.cfg, "cpu", 2)
    model(tokens[:, :3], past_kv_cache=past)
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 1, 0, 1]])
    out = model(tokens[:, 3:], attention_mask=mask, past_kv_cache=past)
    whole = torch.cat([torch.ones(2, 3).long(), mask], 1).bool()
    for row in range(2):
        alone = model(tokens[row][whole[row]][None])[0, 3:]
        assert_close(out[row][mask[row].bool()], alone)


def test_cached_tokens_count_towards_the_context(make_model: MakeModel) -> None:
    model = make_model(n_ctx=5)
    past = KeyValueCache.init_cache(model.cfg, "cpu", 3)
    model(_tokens(3, 4), past_kv_cache=past)
    with pytest.raises(InputError, match="n_ctx"):
        model(_tokens(3, 2), past_kv_cache=past)
    assert len(past) == 4
    model(_tokens(3, 1), past_kv_cache=past)


@pytest.mark.parametrize("watched", [True, False], ids=["explicit", "fused"])
def test_failed_run_leaves_the_cache(
    watched: bool, make_model: MakeModel, assert_close: AssertClose
) -> None:
    """A hook that raises in the middle of a run: the cache is as it was before."""
    model = make_model(dtype="float64")
    tokens = _tokens()
    past = KeyValueCache.init_cache(model.cfg, "cpu", 3)
    model(tokens[:, :3], past_kv_cache=past)

    def fail(x: Tensor, hook: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        model.run_with_hooks(
            tokens[:, 3:6], past_kv_cache=past, fwd_hooks=[("blocks.1.hook_resid_pre", fail)]
        )
    assert len(past) == 3
    assert {layer.keys.shape[1] for layer in past.layers} == {3}
    names = None if watched else ["hook_embed"]
    rest, _ = model.run_with_cache(tokens[:, 3:], past_kv_cache=past, names_filter=names)
    assert_close(rest, model(tokens)[:, 3:])


@pytest.mark.parametrize("part", ["stop", "start"])
def test_part_of_a_run_with_a_cache(
    part: str, make_model: MakeModel, assert_close: AssertClose
) -> None:
    """Refused, or without effect on what comes after."""
    model = make_model(dtype="float64")
    tokens = _tokens()
    past = KeyValueCache.init_cache(model.cfg, "cpu", 3)
    model(tokens[:, :3], past_kv_cache=past)
    refused = False
    try:
        if part == "stop":
            model(tokens[:, 3:], past_kv_cache=past, stop_at_layer=1)
        else:
            residual = model(tokens, stop_at_layer=1)[:, 3:]
            model(residual, past_kv_cache=past, start_at_layer=1)
    except InputError:
        refused = True
    assert refused or len(past) == 3
    assert_close(model(tokens[:, 3:], past_kv_cache=past), model(tokens)[:, 3:])


def test_encoder_refuses_a_cache(make_model: MakeModel) -> None:
    """What later tokens change cannot be kept."""
    model = make_model(attention_dir="bidirectional")
    with pytest.raises(InputError, match="causal"):
        model(_tokens(), past_kv_cache=KeyValueCache.init_cache(model.cfg, "cpu", 3))
