"""GPT-2 (Radford et al. 2019): learned positions, LayerNorm, fused q/k/v, tied embeddings."""

from __future__ import annotations

from typing import Any

from interp.pretrained.family import Family, HfConfig, Row, activation, refuse, required

_QKV = "d_model (qkv head d_head) -> qkv head d_model d_head"
_QKV_BIAS = "(qkv head d_head) -> qkv head d_head"


def make_config(config: HfConfig) -> dict[str, Any]:
    """Our fields from a `GPT2Config`."""
    refuse(config, add_cross_attention=False)
    return {
        "n_layers": required(config, "n_layer"),
        "d_model": required(config, "n_embd"),
        "n_heads": required(config, "n_head"),
        "n_ctx": required(config, "n_positions"),
        "d_vocab": required(config, "vocab_size"),
        "d_mlp": config.get("n_inner") or 4 * config["n_embd"],
        "act_fn": activation(config.get("activation_function", "gelu_new")),
        "eps": config.get("layer_norm_epsilon", 1e-5),
        "normalization_type": "LN",
        "positional_embedding_type": "standard",
        "use_attn_scale": config.get("scale_attn_weights", True),
        "scale_attn_by_inverse_layer_idx": config.get("scale_attn_by_inverse_layer_idx", False),
        "tie_word_embeddings": config.get("tie_word_embeddings", True),
    }


GPT2 = Family(
    name="GPT-2",
    description="learned positions, LayerNorm, tied embeddings",
    architectures=("GPT2LMHeadModel", "GPT2Model"),
    model_types=("gpt2",),
    prefix="transformer.",
    rows=(
        Row("embed.W_E", "wte.weight"),
        Row("pos_embed.W_pos", "wpe.weight"),
        Row("blocks.{l}.ln1.w", "h.{l}.ln_1.weight"),
        Row("blocks.{l}.ln1.b", "h.{l}.ln_1.bias"),
        Row("blocks.{l}.attn.W_Q", "h.{l}.attn.c_attn.weight", _QKV, 0),
        Row("blocks.{l}.attn.W_K", "h.{l}.attn.c_attn.weight", _QKV, 1),
        Row("blocks.{l}.attn.W_V", "h.{l}.attn.c_attn.weight", _QKV, 2),
        Row("blocks.{l}.attn.b_Q", "h.{l}.attn.c_attn.bias", _QKV_BIAS, 0),
        Row("blocks.{l}.attn.b_K", "h.{l}.attn.c_attn.bias", _QKV_BIAS, 1),
        Row("blocks.{l}.attn.b_V", "h.{l}.attn.c_attn.bias", _QKV_BIAS, 2),
        Row(
            "blocks.{l}.attn.W_O",
            "h.{l}.attn.c_proj.weight",
            "(head d_head) d_model -> head d_head d_model",
        ),
        Row("blocks.{l}.attn.b_O", "h.{l}.attn.c_proj.bias"),
        Row("blocks.{l}.ln2.w", "h.{l}.ln_2.weight"),
        Row("blocks.{l}.ln2.b", "h.{l}.ln_2.bias"),
        Row("blocks.{l}.mlp.W_in", "h.{l}.mlp.c_fc.weight"),
        Row("blocks.{l}.mlp.b_in", "h.{l}.mlp.c_fc.bias"),
        Row("blocks.{l}.mlp.W_out", "h.{l}.mlp.c_proj.weight"),
        Row("blocks.{l}.mlp.b_out", "h.{l}.mlp.c_proj.bias"),
        Row("ln_final.w", "ln_f.weight"),
        Row("ln_final.b", "ln_f.bias"),
        Row(
            "unembed.W_U",
            "lm_head.weight",
            "d_vocab d_model -> d_model d_vocab",
            wanted=lambda cfg: not cfg.tie_word_embeddings,
        ),
    ),
    ignored=(r"h\.\d+\.attn\.(bias|masked_bias)",),
    make_config=make_config,
)
