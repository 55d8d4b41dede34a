"""MPT (MosaicML 2023): ALiBi, and no bias anywhere."""

from __future__ import annotations

from typing import Any

from interp.errors import InputError
from interp.pretrained import rows
from interp.pretrained.family import Family, HfConfig, Row, refuse, required

_LAYER = "blocks.{l}."
_QKV = "(qkv head d_head) d_model -> qkv head d_model d_head"


def make_config(config: HfConfig) -> dict[str, Any]:
    """Our fields from an `MptConfig`.

    Raises:
        InputError: for options that the authors' code reads and Hugging Face's does not (positions
            other than ALiBi, slopes other than its own, biases, scaled logits, …), and for clipped
            queries, keys and values.
    """
    refuse(config, no_bias=True, expansion_ratio=4, logit_scale=None)
    if config.get("norm_type", "layernorm") not in ("layernorm", "low_precision_layernorm"):
        refuse(config, norm_type="low_precision_layernorm")
    attention = config.get("attn_config") or {}
    refuse(
        attention,
        attn_type="multihead_attention",
        alibi=True,
        alibi_bias_max=8,
        clip_qkv=None,
        qk_ln=False,
        prefix_lm=False,
        attn_uses_sequence_id=False,
    )
    d_model, n_heads = required(config, "d_model"), required(config, "n_heads")
    scale = attention.get("softmax_scale")
    if scale is not None and not scale > 0:
        raise InputError(f"softmax_scale must be positive. Received {scale!r}.")
    return {
        "n_layers": required(config, "n_layers"),
        "d_model": d_model,
        "n_heads": n_heads,
        "n_ctx": required(config, "max_seq_len"),
        "d_vocab": required(config, "vocab_size"),
        "d_mlp": 4 * d_model,
        "act_fn": "gelu",
        "eps": config.get("layer_norm_epsilon", 1e-5),
        "normalization_type": "LN",
        "attn_scale": (d_model / n_heads) ** 0.5 if scale is None else 1.0 / scale,
        "positional_embedding_type": "alibi",
        "tie_word_embeddings": config.get("tie_word_embeddings", True),
    }


MPT = Family(
    name="MPT",
    description="ALiBi, no biases",
    architectures=("MptForCausalLM", "MptModel"),
    model_types=("mpt",),
    prefix="transformer.",
    rows=(
        Row("embed.W_E", "wte.weight"),
        Row("blocks.{l}.ln1.w", _LAYER + "norm_1.weight"),
        *(
            Row(f"blocks.{{l}}.attn.W_{x}", _LAYER + "attn.Wqkv.weight", _QKV, i)
            for i, x in enumerate("QKV")
        ),
        Row("blocks.{l}.attn.W_O", _LAYER + "attn.out_proj.weight", rows.HEADS_OUT),
        Row("blocks.{l}.ln2.w", _LAYER + "norm_2.weight"),
        *rows.mlp_weights(_LAYER + "ffn.up_proj", _LAYER + "ffn.down_proj"),
        Row("ln_final.w", "norm_f.weight"),
        *rows.UNEMBEDDING,
    ),
    ignored=(),
    make_config=make_config,
)
