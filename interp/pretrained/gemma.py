"""Gemma 1 to 3, text (Gemma Team 2024, 2024, 2025): scaled embeddings, norms stored less one.

Gemma 2 also normalises what each sublayer adds, caps scores and logits softly, and gives every
other layer a window. Gemma 3 normalises queries and keys instead of capping, and layers with a
window turn by a base of their own.
"""

from __future__ import annotations

from typing import Any

from interp.pretrained import llama
from interp.pretrained.family import Family, HfConfig, activation, refuse
from interp.pretrained.rotary_fields import rotary_scaling

_TANH = "gelu_pytorch_tanh"


def _shared(config: HfConfig, act_fn: str) -> dict[str, Any]:
    refuse(config, use_bidirectional_attention=False)
    fields = llama.shared_fields({"head_dim": 256, **config})
    return {
        **fields,
        "act_fn": activation(act_fn),
        "embed_scale": fields["d_model"] ** 0.5,
        "tie_word_embeddings": config.get("tie_word_embeddings", True),
    }


def make_config(config: HfConfig) -> dict[str, Any]:
    """Our fields from a `GemmaConfig`, in which `gelu` means its approximation by a tanh."""
    refuse(config, hidden_activation=_TANH)
    act_fn = config.get("hidden_act") or _TANH
    return _shared(config, _TANH if act_fn == "gelu" else act_fn)


def make_gemma2_config(config: HfConfig) -> dict[str, Any]:
    """Our fields from a `Gemma2Config`."""
    return _later(config, every=2)


def make_gemma3_config(config: HfConfig) -> dict[str, Any]:
    """Our fields from a `Gemma3TextConfig`."""
    refuse(config, attn_logit_softcapping=None)
    given = config.get("rope_parameters") or {}
    wide = given.get("full_attention") or config.get("rope_scaling") or {}
    narrow = given.get("sliding_attention") or {}
    refuse(narrow, rope_type="default")
    base = wide.get("rope_theta") or config.get("rope_theta") or 1e6
    local = narrow.get("rope_theta") or config.get("rope_local_base_freq") or 1e4
    plain = {k: v for k, v in config.items() if k not in ("rope_parameters", "rope_scaling")}
    return {
        **_later(plain, every=config.get("sliding_window_pattern") or 6),
        "rotary_base": float(base),
        "rotary_base_local": float(local),
        "rotary_scaling": rotary_scaling(config, wide),
        "qk_norm": "head",
    }


def _later(config: HfConfig, every: int) -> dict[str, Any]:
    """What Gemma 2 and 3 share: the last of `every` layers sees everything."""
    fields = _shared(config, config.get("hidden_activation") or _TANH)
    default = (
        "sliding_attention" if (layer + 1) % every else "full_attention"
        for layer in range(fields["n_layers"])
    )
    scalar = config.get("query_pre_attn_scalar", 256)
    return {
        **fields,
        "norm_placement": "sandwich",
        "attn_scale": float(scalar) ** 0.5,
        "attn_scores_soft_cap": config.get("attn_logit_softcapping") or -1.0,
        "output_logits_soft_cap": config.get("final_logit_softcapping") or -1.0,
        "window_size": config.get("sliding_window", 4096),
        "attn_types": llama.attention_types(config, default),
    }


GEMMA = Family(
    name="Gemma",
    description="Llama with scaled embeddings, a tanh GELU and norms stored less one",
    architectures=("GemmaForCausalLM", "GemmaModel"),
    model_types=("gemma",),
    prefix="model.",
    rows=(
        *llama.EMBEDDING,
        *llama.less_one(llama.NORMS),
        *llama.ATTENTION,
        *llama.ATTENTION_BIASES,
        *llama.GATED_MLP,
        *llama.less_one(llama.FINAL_NORM),
        *llama.UNEMBEDDING,
    ),
    ignored=llama.BUFFERS,
    make_config=make_config,
)

GEMMA2 = Family(
    name="Gemma 2",
    description="Gemma with sandwich norms, soft caps, and a window in every other layer",
    architectures=("Gemma2ForCausalLM", "Gemma2Model"),
    model_types=("gemma2",),
    prefix="model.",
    rows=(
        *llama.EMBEDDING,
        *llama.less_one(llama.SANDWICH_NORMS),
        *llama.ATTENTION,
        *llama.ATTENTION_BIASES,
        *llama.GATED_MLP,
        *llama.less_one(llama.FINAL_NORM),
        *llama.UNEMBEDDING,
    ),
    ignored=llama.BUFFERS,
    make_config=make_gemma2_config,
)

GEMMA3 = Family(
    name="Gemma 3",
    description="the text model: Gemma 2 with normalised queries and keys, and two rotary bases",
    architectures=("Gemma3ForCausalLM", "Gemma3TextModel"),
    model_types=("gemma3_text",),
    prefix="model.",
    rows=(
        *llama.EMBEDDING,
        *llama.less_one(llama.SANDWICH_NORMS),
        *llama.ATTENTION,
        *llama.ATTENTION_BIASES,
        *llama.less_one(llama.QK_NORMS),
        *llama.GATED_MLP,
        *llama.less_one(llama.FINAL_NORM),
        *llama.UNEMBEDDING,
    ),
    ignored=llama.BUFFERS,
    make_config=make_gemma3_config,
)
