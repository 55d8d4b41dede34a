"""GPT-Neo (Black et al. 2021): GPT-2 with a window in every second layer, and unscaled scores."""

from __future__ import annotations

from typing import Any

from interp.errors import InputError
from interp.pretrained import rows
from interp.pretrained.family import Family, HfConfig, Row, activation, required

_LAYER = "h.{l}."
_ATTN = _LAYER + "attn.attention."
_MLP = (_LAYER + "mlp.c_fc", _LAYER + "mlp.c_proj")


def make_config(config: HfConfig) -> dict[str, Any]:
    """Our fields from a `GPTNeoConfig`."""
    d_model = required(config, "hidden_size")
    types = attention_types(config)
    return {
        "n_layers": required(config, "num_layers"),
        "d_model": d_model,
        "n_heads": required(config, "num_heads"),
        "n_ctx": required(config, "max_position_embeddings"),
        "d_vocab": required(config, "vocab_size"),
        "d_mlp": config.get("intermediate_size") or 4 * d_model,
        "act_fn": activation(config.get("activation_function", "gelu_new")),
        "eps": config.get("layer_norm_epsilon", 1e-5),
        "normalization_type": "LN",
        "positional_embedding_type": "standard",
        "use_attn_scale": False,
        "window_size": config.get("window_size", 256) if "local" in types else None,
        "attn_types": types,
        "tie_word_embeddings": config.get("tie_word_embeddings", True),
    }


def attention_types(config: HfConfig) -> tuple[str, ...]:
    """`global` or `local` for every layer.

    Raises:
        InputError: if they are not as many as there are layers, or of another type.
    """
    n_layers = required(config, "num_layers")
    given = config.get("attention_types") or [[["global", "local"], 12]]
    types = tuple(kind for kinds, times in given for _ in range(times) for kind in kinds)
    if len(types) != n_layers or not set(types) <= {"global", "local"}:
        raise InputError(
            f"attention_types must give 'global' or 'local' for each of {n_layers} layers. "
            f"Received {given!r}."
        )
    return types


GPT_NEO = Family(
    name="GPT-Neo",
    description="GPT-2 with windows in every second layer, unscaled scores, and q/k/v apart",
    architectures=("GPTNeoForCausalLM", "GPTNeoModel"),
    model_types=("gpt_neo",),
    prefix="transformer.",
    rows=(
        Row("embed.W_E", "wte.weight"),
        Row("pos_embed.W_pos", "wpe.weight"),
        *rows.norm("blocks.{l}.ln1", _LAYER + "ln_1"),
        *rows.attention_weights(_ATTN, "out_proj"),
        Row("blocks.{l}.attn.b_O", _ATTN + "out_proj.bias"),
        *rows.norm("blocks.{l}.ln2", _LAYER + "ln_2"),
        *rows.mlp_weights(*_MLP),
        *rows.mlp_biases(*_MLP),
        *rows.norm("ln_final", "ln_f"),
        *rows.UNEMBEDDING,
    ),
    ignored=(r"h\.\d+\.attn\.attention\.(bias|masked_bias)",),
    make_config=make_config,
)
