"""GPT-NeoX (Black et al. 2022) and Pythia (Biderman et al. 2023).

Rotary positions of a part of each head, and attention beside the MLP with a norm for each.
"""

from __future__ import annotations

from typing import Any

from interp.pretrained import rows
from interp.pretrained.family import Family, HfConfig, Row, activation, required
from interp.pretrained.rotary_fields import rotary_dim, rotary_fields

_LAYER = "layers.{l}."
_QKV = (_LAYER + "attention.query_key_value", _LAYER + "attention.dense")
_MLP = (_LAYER + "mlp.dense_h_to_4h", _LAYER + "mlp.dense_4h_to_h")


def make_config(config: HfConfig) -> dict[str, Any]:
    """Our fields from a `GPTNeoXConfig`."""
    d_model, n_heads = (required(config, n) for n in ("hidden_size", "num_attention_heads"))
    d_head = d_model // n_heads
    return {
        "n_layers": required(config, "num_hidden_layers"),
        "d_model": d_model,
        "n_heads": n_heads,
        "d_head": d_head,
        "n_ctx": required(config, "max_position_embeddings"),
        "d_vocab": required(config, "vocab_size"),
        "d_mlp": required(config, "intermediate_size"),
        "act_fn": activation(config.get("hidden_act", "gelu")),
        "eps": config.get("layer_norm_eps", 1e-5),
        "normalization_type": "LN",
        **rotary_fields(config, config.get("rotary_emb_base", 10_000.0)),
        "rotary_dim": rotary_dim(config, d_head, config.get("rotary_pct", 0.25)),
        "parallel_attn_mlp": config.get("use_parallel_residual", True),
        "tie_word_embeddings": config.get("tie_word_embeddings", False),
    }


NEOX = Family(
    name="GPT-NeoX",
    description="GPT-NeoX and Pythia: partial rotary positions, attention beside the MLP",
    architectures=("GPTNeoXForCausalLM", "GPTNeoXModel"),
    model_types=("gpt_neox",),
    prefix="gpt_neox.",
    rows=(
        Row("embed.W_E", "embed_in.weight"),
        *rows.norm("blocks.{l}.ln1", _LAYER + "input_layernorm"),
        *rows.fused_attention_weights(*_QKV),
        *rows.fused_attention_biases(*_QKV, when=rows.unless("attention_bias")),
        *rows.norm("blocks.{l}.ln2", _LAYER + "post_attention_layernorm"),
        *rows.mlp_weights(*_MLP),
        *rows.mlp_biases(*_MLP),
        *rows.norm("ln_final", "final_layer_norm"),
        *rows.UNEMBEDDING,
    ),
    ignored=(r"layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)",),
    make_config=make_config,
    renamed=((r"embed_out\.weight", "lm_head.weight"),),  # before transformers 5
)
