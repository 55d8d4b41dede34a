"""OPT (Zhang et al. 2022): learned positions that begin at the third vector, ReLU."""

from __future__ import annotations

from typing import Any

from interp.config import HookedTransformerConfig
from interp.errors import InputError
from interp.pretrained import rows
from interp.pretrained.family import Family, HfConfig, Row, activation, required

_LAYER = "decoder.layers.{l}."
_ATTN = _LAYER + "self_attn."
_MLP = (_LAYER + "fc1", _LAYER + "fc2")
_FIRST_POSITION = 2


def make_config(config: HfConfig) -> dict[str, Any]:
    """Our fields from an `OPTConfig`.

    Raises:
        InputError: for embeddings of another width than the residual stream (OPT-350M).
    """
    d_model = required(config, "hidden_size")
    d_embed = config.get("word_embed_proj_dim") or d_model
    if d_embed != d_model:
        raise InputError(
            f"word_embed_proj_dim={d_embed} is not supported yet: embeddings must be as wide as "
            f"the residual stream ({d_model})."
        )
    before = config.get("do_layer_norm_before", True)
    weighted = config.get("layer_norm_elementwise_affine", True)
    if not (before or weighted):
        raise InputError(
            "layer_norm_elementwise_affine=False is not supported with do_layer_norm_before=False."
        )
    return {
        "n_layers": required(config, "num_hidden_layers"),
        "d_model": d_model,
        "n_heads": required(config, "num_attention_heads"),
        "n_ctx": required(config, "max_position_embeddings"),
        "d_vocab": required(config, "vocab_size"),
        "d_mlp": required(config, "ffn_dim"),
        "act_fn": activation(config.get("activation_function", "relu")),
        "eps": 1e-5,
        "normalization_type": "LN" if weighted else "LNPre",
        "norm_placement": "pre" if before else "post",
        "final_norm": before and not config.get("_remove_final_layer_norm", False),
        "positional_embedding_type": "standard",
        "tie_word_embeddings": config.get("tie_word_embeddings", True),
    }


def _weighted(cfg: HookedTransformerConfig) -> bool:
    return cfg.normalization_type == "LN"


def _ends_weighted(cfg: HookedTransformerConfig) -> bool:
    return bool(cfg.final_norm) and _weighted(cfg)


OPT = Family(
    name="OPT",
    description="OPT and Galactica: learned positions, norms before or after, ReLU",
    architectures=("OPTForCausalLM", "OPTModel"),
    model_types=("opt",),
    prefix="model.",
    rows=(
        Row("embed.W_E", "decoder.embed_tokens.weight"),
        Row("pos_embed.W_pos", "decoder.embed_positions.weight", skip=_FIRST_POSITION),
        *rows.norm("blocks.{l}.ln1", _LAYER + "self_attn_layer_norm", wanted=_weighted),
        *rows.attention_weights(_ATTN, "out_proj"),
        *rows.attention_biases(_ATTN, "out_proj", when=rows.unless("enable_bias")),
        *rows.norm("blocks.{l}.ln2", _LAYER + "final_layer_norm", wanted=_weighted),
        *rows.mlp_weights(*_MLP),
        *rows.mlp_biases(*_MLP, when=rows.unless("enable_bias")),
        *rows.norm("ln_final", "decoder.final_layer_norm", wanted=_ends_weighted),
        *rows.UNEMBEDDING,
    ),
    ignored=(r"decoder\.version",),
    make_config=make_config,
)
