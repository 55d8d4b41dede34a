"""Llama (Touvron et al. 2023): rotary positions, RMSNorm, gated MLP, grouped queries."""

from __future__ import annotations

from typing import Any

from interp.errors import InputError
from interp.pretrained.family import Family, HfConfig, Row, activation, refuse, required

_HEADS = "(head d_head) d_model -> head d_model d_head"
_MATRIX = "d_out d_in -> d_in d_out"


def make_config(config: HfConfig) -> dict[str, Any]:
    """Our fields from a `LlamaConfig`."""
    refuse(config, mlp_bias=False, attention_bias=False, partial_rotary_factor=1.0)
    n_heads = required(config, "num_attention_heads")
    return {
        "n_layers": required(config, "num_hidden_layers"),
        "d_model": required(config, "hidden_size"),
        "n_heads": n_heads,
        "n_key_value_heads": config.get("num_key_value_heads") or n_heads,
        "d_head": config.get("head_dim") or config["hidden_size"] // n_heads,
        "n_ctx": required(config, "max_position_embeddings"),
        "d_vocab": required(config, "vocab_size"),
        "d_mlp": required(config, "intermediate_size"),
        "act_fn": activation(config.get("hidden_act", "silu")),
        "gated_mlp": True,
        "eps": config.get("rms_norm_eps", 1e-6),
        "normalization_type": "RMS",
        "positional_embedding_type": "rotary",
        "rotary_base": rotary_base(config),
        "tie_word_embeddings": config.get("tie_word_embeddings", False),
    }


def rotary_base(config: HfConfig) -> float:
    """The base of plain rotary positions, from either way of writing it down.

    Raises:
        InputError: for scaled rotary positions.
    """
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind != "default":
        raise InputError(f"rotary scaling {kind!r} is not supported yet (only 'default' is).")
    base: float = scaling.get("rope_theta") or config.get("rope_theta") or 10_000.0
    return float(base)


LLAMA = Family(
    name="Llama",
    description="rotary positions, RMSNorm, gated MLP, grouped-query attention",
    architectures=("LlamaForCausalLM", "LlamaModel"),
    model_types=("llama",),
    prefix="model.",
    rows=(
        Row("embed.W_E", "embed_tokens.weight"),
        Row("blocks.{l}.ln1.w", "layers.{l}.input_layernorm.weight"),
        Row("blocks.{l}.attn.W_Q", "layers.{l}.self_attn.q_proj.weight", _HEADS),
        Row("blocks.{l}.attn.W_K", "layers.{l}.self_attn.k_proj.weight", _HEADS),
        Row("blocks.{l}.attn.W_V", "layers.{l}.self_attn.v_proj.weight", _HEADS),
        Row(
            "blocks.{l}.attn.W_O",
            "layers.{l}.self_attn.o_proj.weight",
            "d_model (head d_head) -> head d_head d_model",
        ),
        Row("blocks.{l}.ln2.w", "layers.{l}.post_attention_layernorm.weight"),
        Row("blocks.{l}.mlp.W_gate", "layers.{l}.mlp.gate_proj.weight", _MATRIX),
        Row("blocks.{l}.mlp.W_in", "layers.{l}.mlp.up_proj.weight", _MATRIX),
        Row("blocks.{l}.mlp.W_out", "layers.{l}.mlp.down_proj.weight", _MATRIX),
        Row("ln_final.w", "norm.weight"),
        Row(
            "unembed.W_U",
            "lm_head.weight",
            "d_vocab d_model -> d_model d_vocab",
            wanted=lambda cfg: not cfg.tie_word_embeddings,
        ),
    ),
    ignored=(r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq",),
    make_config=make_config,
)
