"""GPT-J (Wang & Komatsuzaki 2021): rotary positions of adjacent pairs; attention beside the MLP."""

from __future__ import annotations

from typing import Any

from interp.errors import InputError
from interp.pretrained import rows
from interp.pretrained.family import Family, HfConfig, Row, activation, required

_LAYER = "h.{l}."
_MLP = (_LAYER + "mlp.fc_in", _LAYER + "mlp.fc_out")


def make_config(config: HfConfig) -> dict[str, Any]:
    """Our fields from a `GPTJConfig`.

    Raises:
        InputError: for `rotary_dim=None`, with which Hugging Face's code fails.
    """
    rotary_dim = config.get("rotary_dim", 64)
    if rotary_dim is None:
        raise InputError("rotary_dim=None is not supported: Hugging Face's own code fails with it.")
    d_model = required(config, "n_embd")
    return {
        "n_layers": required(config, "n_layer"),
        "d_model": d_model,
        "n_heads": required(config, "n_head"),
        "n_ctx": required(config, "n_positions"),
        "d_vocab": required(config, "vocab_size"),
        "d_mlp": config.get("n_inner") or 4 * d_model,
        "act_fn": activation(config.get("activation_function", "gelu_new")),
        "eps": config.get("layer_norm_epsilon", 1e-5),
        "normalization_type": "LN",
        "positional_embedding_type": "rotary",
        "rotary_dim": rotary_dim,
        "rotary_adjacent_pairs": True,
        "parallel_attn_mlp": True,
        "tie_word_embeddings": config.get("tie_word_embeddings", False),
    }


GPT_J = Family(
    name="GPT-J",
    description="rotary positions of adjacent pairs; attention beside the MLP, one norm for both",
    architectures=("GPTJForCausalLM",),
    model_types=("gptj",),
    prefix="transformer.",
    rows=(
        Row("embed.W_E", "wte.weight"),
        *rows.norm("blocks.{l}.ln1", _LAYER + "ln_1"),
        *rows.norm("blocks.{l}.ln2", _LAYER + "ln_1"),
        *rows.attention_weights(_LAYER + "attn.", "out_proj"),
        *rows.mlp_weights(*_MLP),
        *rows.mlp_biases(*_MLP),
        *rows.norm("ln_final", "ln_f"),
        *rows.UNEMBEDDING,
        *rows.UNEMBEDDING_BIAS,
    ),
    ignored=(r"h\.\d+\.attn\.(bias|masked_bias)",),
    make_config=make_config,
)
