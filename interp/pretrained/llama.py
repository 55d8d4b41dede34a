"""Llama (Touvron et al. 2023): rotary positions, RMSNorm, gated MLP, grouped queries.

Its many descendants share its rows and fields, and add what they do otherwise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from interp.errors import InputError
from interp.pretrained.family import Family, HfConfig, Row, activation, refuse, required
from interp.pretrained.rotary_fields import rotary_fields
from interp.pretrained.rows import MATRIX, attention_biases, attention_weights

_LAYER = "layers.{l}."
_ATTN = _LAYER + "self_attn."

EMBEDDING = (Row("embed.W_E", "embed_tokens.weight"),)
NORMS = (
    Row("blocks.{l}.ln1.w", _LAYER + "input_layernorm.weight"),
    Row("blocks.{l}.ln2.w", _LAYER + "post_attention_layernorm.weight"),
)
# Norms of what is read and of what is added, or of the latter alone.
ADDED_NORMS = (
    Row("blocks.{l}.ln1_post.w", _LAYER + "post_attention_layernorm.weight"),
    Row("blocks.{l}.ln2_post.w", _LAYER + "post_feedforward_layernorm.weight"),
)
SANDWICH_NORMS = (
    Row("blocks.{l}.ln1.w", _LAYER + "input_layernorm.weight"),
    Row("blocks.{l}.ln2.w", _LAYER + "pre_feedforward_layernorm.weight"),
    *ADDED_NORMS,
)
QK_NORMS = (
    Row("blocks.{l}.attn.q_norm.w", _ATTN + "q_norm.weight"),
    Row("blocks.{l}.attn.k_norm.w", _ATTN + "k_norm.weight"),
)
ATTENTION = attention_weights(_ATTN, "o_proj")
# Where their config says attention_bias=True.
ATTENTION_BIASES = attention_biases(_ATTN, "o_proj", when="attention_bias")
QKV_BIASES = attention_biases(_ATTN, "o_proj")[:3]
GATED_MLP = (
    Row("blocks.{l}.mlp.W_gate", _LAYER + "mlp.gate_proj.weight", MATRIX),
    Row("blocks.{l}.mlp.W_in", _LAYER + "mlp.up_proj.weight", MATRIX),
    Row("blocks.{l}.mlp.W_out", _LAYER + "mlp.down_proj.weight", MATRIX),
)
FINAL_NORM = (Row("ln_final.w", "norm.weight"),)
UNEMBEDDING = (
    Row(
        "unembed.W_U",
        "lm_head.weight",
        "d_vocab d_model -> d_model d_vocab",
        wanted=lambda cfg: not cfg.tie_word_embeddings,
    ),
)
BUFFERS = (r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq", r"rotary_emb\.inv_freq")


def less_one(rows: Iterable[Row]) -> tuple[Row, ...]:
    """The rows of norms that store their weight less one."""
    return tuple(dataclasses.replace(row, add=1.0) for row in rows)


def shared_fields(config: HfConfig, eps: float = 1e-6, base: float = 10_000.0) -> dict[str, Any]:
    """Our fields from a config with Llama's names; `eps` and `base` where it gives none."""
    n_heads = required(config, "num_attention_heads")
    d_head = config.get("head_dim") or required(config, "hidden_size") // n_heads
    for place in (config, config.get("rope_parameters") or {}):
        refuse(place, partial_rotary_factor=1.0)
    return {
        "n_layers": required(config, "num_hidden_layers"),
        "d_model": required(config, "hidden_size"),
        "n_heads": n_heads,
        "n_key_value_heads": config.get("num_key_value_heads") or n_heads,
        "d_head": d_head,
        "n_ctx": required(config, "max_position_embeddings"),
        "d_vocab": required(config, "vocab_size"),
        "d_mlp": required(config, "intermediate_size"),
        "act_fn": activation(config.get("hidden_act") or "silu"),
        "gated_mlp": True,
        "eps": config.get("rms_norm_eps", eps),
        "normalization_type": "RMS",
        "tie_word_embeddings": config.get("tie_word_embeddings", False),
        **rotary_fields(config, base),
    }


_TYPES = {"full_attention": "global", "sliding_attention": "local"}


def attention_types(config: HfConfig, default: Iterable[str]) -> tuple[str, ...]:
    """Which layers have a window, by `layer_types`; `default` where the config gives none.

    Raises:
        InputError: for a type of layer that interp does not have.
    """
    named = tuple(config.get("layer_types") or default)
    other = sorted(set(named) - set(_TYPES))
    if other:
        raise InputError(
            f"layer_types must be {' or '.join(map(repr, _TYPES))}. The model has {other}."
        )
    return tuple(_TYPES[name] for name in named)


def make_config(config: HfConfig) -> dict[str, Any]:
    """Our fields from a `LlamaConfig`."""
    refuse(config, mlp_bias=False)
    return shared_fields(config)


LLAMA = Family(
    name="Llama",
    description="Llama 1 to 3.3: rotary positions, RMSNorm, gated MLP, grouped-query attention",
    architectures=("LlamaForCausalLM", "LlamaModel"),
    model_types=("llama",),
    prefix="model.",
    rows=(
        *EMBEDDING,
        *NORMS,
        *ATTENTION,
        *ATTENTION_BIASES,
        *GATED_MLP,
        *FINAL_NORM,
        *UNEMBEDDING,
    ),
    ignored=BUFFERS,
    make_config=make_config,
)
