"""BLOOM (Le Scao et al. 2022): ALiBi, a norm over the embeddings, q/k/v fused head by head."""

from __future__ import annotations

from typing import Any

from interp.errors import InputError
from interp.pretrained import rows
from interp.pretrained.family import Family, HfConfig, Row, refuse, required

_LAYER = "h.{l}."
_QKV = (_LAYER + "self_attention.query_key_value", _LAYER + "self_attention.dense")
_MLP = (_LAYER + "mlp.dense_h_to_4h", _LAYER + "mlp.dense_4h_to_h")


def make_config(config: HfConfig) -> dict[str, Any]:
    """Our fields from a `BloomConfig`, whose older files have other names for some of its fields.

    Raises:
        InputError: for residual streams that are normalised, or that lose biases.
    """
    refuse(config, apply_residual_connection_post_layernorm=False)
    if config.get("pretraining_tp", 1) > 1 and config.get("slow_but_exact"):
        raise InputError(
            "slow_but_exact=True is not supported: with it, Hugging Face's code drops the biases "
            "of what attention and MLP add."
        )
    d_model = config.get("n_embed") or required(config, "hidden_size")
    return {
        "n_layers": config.get("num_hidden_layers") or required(config, "n_layer"),
        "d_model": d_model,
        "n_heads": config.get("num_attention_heads") or required(config, "n_head"),
        "n_ctx": config.get("seq_length") or 2048,
        "d_vocab": required(config, "vocab_size"),
        "d_mlp": 4 * d_model,
        "act_fn": "gelu_bloom",
        "eps": config.get("layer_norm_epsilon", 1e-5),
        "normalization_type": "LN",
        "post_embedding_ln": True,
        "positional_embedding_type": "alibi",
        "tie_word_embeddings": config.get("tie_word_embeddings", True),
    }


BLOOM = Family(
    name="BLOOM",
    description="ALiBi, a norm over the embeddings",
    architectures=("BloomForCausalLM", "BloomModel"),
    model_types=("bloom",),
    prefix="transformer.",
    rows=(
        Row("embed.W_E", "word_embeddings.weight"),
        *rows.norm("ln_embed", "word_embeddings_layernorm"),
        *rows.norm("blocks.{l}.ln1", _LAYER + "input_layernorm"),
        *rows.fused_attention_weights(*_QKV),
        *rows.fused_attention_biases(*_QKV),
        *rows.norm("blocks.{l}.ln2", _LAYER + "post_attention_layernorm"),
        *rows.mlp_weights(*_MLP),
        *rows.mlp_biases(*_MLP),
        *rows.norm("ln_final", "ln_f"),
        *rows.UNEMBEDDING,
    ),
    ignored=(),
    make_config=make_config,
)
