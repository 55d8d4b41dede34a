"""Falcon (Almazrouei et al. 2023): rotary positions, shared keys, attention beside the MLP.

The 7B model shares one key and value among all heads and has one norm; the larger ones share them
in groups, and have a norm for attention and another for the MLP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from interp.config import HookedTransformerConfig
from interp.errors import InputError
from interp.pretrained import rows
from interp.pretrained.family import Family, HfConfig, Row, activation, refuse, required
from interp.pretrained.rotary_fields import rotary_fields

_LAYER = "h.{l}."
_QKV, _OUT = _LAYER + "self_attention.query_key_value", _LAYER + "self_attention.dense"
_MLP = (_LAYER + "mlp.dense_h_to_4h", _LAYER + "mlp.dense_4h_to_h")


def make_config(config: HfConfig) -> dict[str, Any]:
    """Our fields from a `FalconConfig`.

    Raises:
        InputError: for ALiBi (Falcon-RW), and for norms that Hugging Face's code does not run with.
    """
    if config.get("alibi"):
        raise InputError(
            "alibi=True is not supported: Hugging Face's code rounds Falcon's ALiBi to bfloat16, "
            "and adds it twice in its eager attention but once in its fused one."
        )
    n_heads = required(config, "num_attention_heads")
    new, beside = config.get("new_decoder_architecture"), config.get("parallel_attn", True)
    if new:
        refuse(config, parallel_attn=True)
    if beside and config.get("num_ln_in_parallel_attn") not in ((None, 1, 2) if new else (None, 1)):
        raise InputError(
            f"num_ln_in_parallel_attn={config['num_ln_in_parallel_attn']!r} is not supported with "
            f"new_decoder_architecture={bool(new)}: Hugging Face's own code fails with it."
        )
    n_kv_heads = 1 if config.get("multi_query", True) else n_heads
    d_model = required(config, "hidden_size")
    return {
        "n_layers": required(config, "num_hidden_layers"),
        "d_model": d_model,
        "n_heads": n_heads,
        "n_key_value_heads": (config.get("num_kv_heads") or n_heads) if new else n_kv_heads,
        "n_ctx": config.get("max_position_embeddings") or 2048,
        "d_vocab": required(config, "vocab_size"),
        "d_mlp": config.get("ffn_hidden_size") or 4 * d_model,
        "act_fn": activation(config.get("activation") or "gelu"),
        "eps": config.get("layer_norm_epsilon", 1e-5),
        "normalization_type": "LN",
        **rotary_fields(config),
        "parallel_attn_mlp": bool(beside),
        "tie_word_embeddings": config.get("tie_word_embeddings", True),
    }


def _has_two_norms(config: HfConfig) -> bool:
    """Whether attention and MLP, side by side, read through a norm each."""
    new = config.get("new_decoder_architecture")
    return bool(new) and config.get("num_ln_in_parallel_attn") in (None, 2)


def _has_one_norm(config: HfConfig) -> bool:
    return not _has_two_norms(config)


def _part(part: slice) -> Callable[[Tensor, HookedTransformerConfig], Tensor]:
    """Queries, keys or values of rows that hold, group by group, all three in this order.

    The queries of several groups lie apart, so they alone are copied, one layer at a time.
    """

    def view(weight: Tensor, cfg: HookedTransformerConfig) -> Tensor:
        group = cfg.n_heads // cfg.n_kv_heads + 2
        whole = weight.unflatten(0, (cfg.n_kv_heads, group, cfg.d_head))
        heads = whole[:, part].flatten(0, 1)
        return heads.mT if heads.ndim == 3 else heads

    return view


_PARTS = {"Q": slice(-2), "K": slice(-2, -1), "V": slice(-1, None)}

FALCON = Family(
    name="Falcon",
    description="rotary positions, shared keys and values, attention beside the MLP",
    architectures=("FalconForCausalLM", "FalconModel"),
    model_types=("falcon",),
    prefix="transformer.",
    rows=(
        Row("embed.W_E", "word_embeddings.weight"),
        *rows.norm("blocks.{l}.ln1", _LAYER + "input_layernorm", when=_has_one_norm),
        *rows.norm("blocks.{l}.ln1", _LAYER + "ln_attn", wanted=rows.parallel, when=_has_two_norms),
        *(
            Row(f"blocks.{{l}}.attn.W_{x}", _QKV + ".weight", view=_part(part))
            for x, part in _PARTS.items()
        ),
        *(
            Row(f"blocks.{{l}}.attn.b_{x}", _QKV + ".bias", view=_part(part), when="bias")
            for x, part in _PARTS.items()
        ),
        Row("blocks.{l}.attn.W_O", _OUT + ".weight", rows.HEADS_OUT),
        Row("blocks.{l}.attn.b_O", _OUT + ".bias", when="bias"),
        *rows.norm(
            "blocks.{l}.ln2", _LAYER + "input_layernorm", wanted=rows.parallel, when=_has_one_norm
        ),
        *rows.norm("blocks.{l}.ln2", _LAYER + "ln_mlp", wanted=rows.parallel, when=_has_two_norms),
        *rows.norm("blocks.{l}.ln2", _LAYER + "post_attention_layernorm", wanted=rows.sequential),
        *rows.mlp_weights(*_MLP),
        *rows.mlp_biases(*_MLP, when="bias"),
        *rows.norm("ln_final", "ln_f"),
        *rows.UNEMBEDDING,
    ),
    ignored=(r"h\.\d+\.self_attention\.(maybe_rotary|rotary_emb)\.inv_freq",),
    make_config=make_config,
)
