"""Phi-1, 1.5 and 2 (Li et al. 2023): partial rotary positions, attention beside the MLP."""

from __future__ import annotations

from typing import Any

from interp.config import HookedTransformerConfig
from interp.pretrained import rows
from interp.pretrained.family import Family, HfConfig, Row, activation, required
from interp.pretrained.rotary_fields import rotary_dim, rotary_fields

_LAYER = "layers.{l}."
_ATTN = _LAYER + "self_attn."
_MLP = (_LAYER + "mlp.fc1", _LAYER + "mlp.fc2")


def make_config(config: HfConfig) -> dict[str, Any]:
    """Our fields from a `PhiConfig`."""
    d_model, n_heads = (required(config, n) for n in ("hidden_size", "num_attention_heads"))
    d_head = config.get("head_dim") or d_model // n_heads
    return {
        "n_layers": required(config, "num_hidden_layers"),
        "d_model": d_model,
        "n_heads": n_heads,
        "n_key_value_heads": config.get("num_key_value_heads") or n_heads,
        "d_head": d_head,
        "n_ctx": required(config, "max_position_embeddings"),
        "d_vocab": required(config, "vocab_size"),
        "d_mlp": required(config, "intermediate_size"),
        "act_fn": activation(config.get("hidden_act", "gelu_new")),
        "eps": config.get("layer_norm_eps", 1e-5),
        "normalization_type": "LN",
        "qk_norm": "head" if config.get("qk_layernorm") else None,
        **rotary_fields(config),
        "rotary_dim": rotary_dim(config, d_head, 0.5),
        "parallel_attn_mlp": True,
        "tie_word_embeddings": config.get("tie_word_embeddings", False),
    }


def _normalises_queries(cfg: HookedTransformerConfig) -> bool:
    return cfg.qk_norm is not None


PHI = Family(
    name="Phi",
    description="Phi-1, 1.5 and 2: partial rotary positions, attention beside the MLP, one norm",
    architectures=("PhiForCausalLM",),
    model_types=("phi",),
    prefix="model.",
    rows=(
        Row("embed.W_E", "embed_tokens.weight"),
        *rows.norm("blocks.{l}.ln1", _LAYER + "input_layernorm"),
        *rows.norm("blocks.{l}.ln2", _LAYER + "input_layernorm"),
        *rows.attention_weights(_ATTN, "dense"),
        *rows.attention_biases(_ATTN, "dense"),
        *rows.norm("blocks.{l}.attn.q_norm", _ATTN + "q_layernorm", wanted=_normalises_queries),
        *rows.norm("blocks.{l}.attn.k_norm", _ATTN + "k_layernorm", wanted=_normalises_queries),
        *rows.mlp_weights(*_MLP),
        *rows.mlp_biases(*_MLP),
        *rows.norm("ln_final", "final_layernorm"),
        *rows.UNEMBEDDING,
        *rows.UNEMBEDDING_BIAS,
    ),
    ignored=(r"(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq",),
    make_config=make_config,
)
