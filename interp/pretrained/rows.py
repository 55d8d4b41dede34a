"""Rows that stand together in many families: a norm's, an MLP's, an attention's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from interp.config import HookedTransformerConfig
from interp.pretrained.family import Row

HEADS = "(head d_head) d_model -> head d_model d_head"
HEADS_BIAS = "(head d_head) -> head d_head"
HEADS_OUT = "d_model (head d_head) -> head d_head d_model"
MATRIX = "d_out d_in -> d_in d_out"

_ATTN = "blocks.{l}.attn."


def norm(ours: str, theirs: str, **conditions: Any) -> tuple[Row, ...]:
    """A LayerNorm's weight and bias."""
    return (
        Row(f"{ours}.w", f"{theirs}.weight", **conditions),
        Row(f"{ours}.b", f"{theirs}.bias", **conditions),
    )


def mlp_weights(theirs_in: str, theirs_out: str) -> tuple[Row, ...]:
    """The weights of an MLP without a gate."""
    return (
        Row("blocks.{l}.mlp.W_in", f"{theirs_in}.weight", MATRIX),
        Row("blocks.{l}.mlp.W_out", f"{theirs_out}.weight", MATRIX),
    )


def mlp_biases(theirs_in: str, theirs_out: str, **conditions: Any) -> tuple[Row, ...]:
    """Its biases."""
    return (
        Row("blocks.{l}.mlp.b_in", f"{theirs_in}.bias", **conditions),
        Row("blocks.{l}.mlp.b_out", f"{theirs_out}.bias", **conditions),
    )


def attention_weights(theirs: str, out: str) -> tuple[Row, ...]:
    """Queries, keys and values from `q_proj`, `k_proj` and `v_proj`; what heads write from `out`.

    Args:
        theirs: What all of these names begin with.
        out: The rest of the last one's.
    """
    qkv = (Row(f"{_ATTN}W_{x.upper()}", f"{theirs}{x}_proj.weight", HEADS) for x in "qkv")
    return (*qkv, Row(f"{_ATTN}W_O", f"{theirs}{out}.weight", HEADS_OUT))


def attention_biases(theirs: str, out: str, **conditions: Any) -> tuple[Row, ...]:
    """Its biases."""
    qkv = (
        Row(f"{_ATTN}b_{x.upper()}", f"{theirs}{x}_proj.bias", HEADS_BIAS, **conditions)
        for x in "qkv"
    )
    return (*qkv, Row(f"{_ATTN}b_O", f"{theirs}{out}.bias", **conditions))


def fused_attention_weights(theirs: str, out: str) -> tuple[Row, ...]:
    """One matrix with, head by head, its queries, its keys and its values."""
    axes = "(head qkv d_head) d_model -> qkv head d_model d_head"
    qkv = (Row(f"{_ATTN}W_{x}", f"{theirs}.weight", axes, i) for i, x in enumerate("QKV"))
    return (*qkv, Row(f"{_ATTN}W_O", f"{out}.weight", HEADS_OUT))


def fused_attention_biases(theirs: str, out: str, **conditions: Any) -> tuple[Row, ...]:
    """Its biases."""
    axes = "(head qkv d_head) -> qkv head d_head"
    qkv = (
        Row(f"{_ATTN}b_{x}", f"{theirs}.bias", axes, i, **conditions) for i, x in enumerate("QKV")
    )
    return (*qkv, Row(f"{_ATTN}b_O", f"{out}.bias", **conditions))


def untied(cfg: HookedTransformerConfig) -> bool:
    """Whether the unembedding has a matrix of its own."""
    return not cfg.tie_word_embeddings


def parallel(cfg: HookedTransformerConfig) -> bool:
    """Whether attention and MLP read the same residual stream."""
    return cfg.parallel_attn_mlp


def sequential(cfg: HookedTransformerConfig) -> bool:
    """Whether the MLP reads what attention has written."""
    return not cfg.parallel_attn_mlp


def unless(field: str) -> Callable[[Any], bool]:
    """For `Row.when`: there, unless this field of their config is False."""
    return lambda config: config.get(field) in (True, None)


UNEMBEDDING = (
    Row("unembed.W_U", "lm_head.weight", "d_vocab d_model -> d_model d_vocab", wanted=untied),
)
UNEMBEDDING_BIAS = (Row("unembed.b_U", "lm_head.bias"),)
