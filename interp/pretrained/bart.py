"""BART (Lewis et al. 2020): the original encoder–decoder, with learned positions."""

from __future__ import annotations

from typing import Any

from interp.errors import InputError
from interp.pretrained.family import Family, HfConfig, Row, activation, refuse, required
from interp.pretrained.rows import HEADS, HEADS_BIAS, HEADS_OUT, MATRIX

# Positions begin at the third vector.
_FIRST_POSITION = 2


def make_config(config: HfConfig) -> dict[str, Any]:
    """Our fields from a `BartConfig`."""
    refuse(config, normalize_embedding=True, static_position_embeddings=False)
    return {
        **stacks_config(config),
        "post_embedding_ln": True,
        "positional_embedding_type": "standard",
    }


def stacks_config(config: HfConfig) -> dict[str, Any]:
    """Our fields of BART's two stacks.

    Raises:
        InputError: if they differ in anything but their depth.
    """
    refuse(config, normalize_before=False, add_final_layer_norm=False)
    for kind in ("attention_heads", "ffn_dim"):
        ours, theirs = (required(config, f"{stack}_{kind}") for stack in ("encoder", "decoder"))
        if ours != theirs:
            raise InputError(
                f"encoder_{kind} and decoder_{kind} must be the same. Received {ours} and {theirs}."
            )
    d_model = required(config, "d_model")
    return {
        "architecture": "encoder-decoder",
        "n_layers": required(config, "decoder_layers"),
        "n_encoder_layers": required(config, "encoder_layers"),
        "d_model": d_model,
        "n_heads": config["encoder_attention_heads"],
        "d_mlp": config["encoder_ffn_dim"],
        "d_vocab": required(config, "vocab_size"),
        "n_ctx": required(config, "max_position_embeddings"),
        "act_fn": activation(config.get("activation_function", "gelu")),
        "eps": 1e-5,
        "normalization_type": "LN",
        "norm_placement": "post",
        "embed_scale": d_model**0.5 if config.get("scale_embedding") else 1.0,
        "tie_word_embeddings": config.get("tie_word_embeddings", True),
        "decoder_start_token_id": config.get("decoder_start_token_id"),
    }


def _attention(ours: str, theirs: str) -> tuple[Row, ...]:
    return (
        Row(f"{ours}.W_Q", f"{theirs}.q_proj.weight", HEADS),
        Row(f"{ours}.W_K", f"{theirs}.k_proj.weight", HEADS),
        Row(f"{ours}.W_V", f"{theirs}.v_proj.weight", HEADS),
        Row(f"{ours}.b_Q", f"{theirs}.q_proj.bias", HEADS_BIAS),
        Row(f"{ours}.b_K", f"{theirs}.k_proj.bias", HEADS_BIAS),
        Row(f"{ours}.b_V", f"{theirs}.v_proj.bias", HEADS_BIAS),
        Row(f"{ours}.W_O", f"{theirs}.out_proj.weight", HEADS_OUT),
        Row(f"{ours}.b_O", f"{theirs}.out_proj.bias"),
    )


def _norm(ours: str, theirs: str) -> tuple[Row, ...]:
    return Row(f"{ours}.w", f"{theirs}.weight"), Row(f"{ours}.b", f"{theirs}.bias")


def _mlp(ours: str, theirs: str) -> tuple[Row, ...]:
    return (
        Row(f"{ours}.W_in", f"{theirs}.fc1.weight", MATRIX),
        Row(f"{ours}.b_in", f"{theirs}.fc1.bias"),
        Row(f"{ours}.W_out", f"{theirs}.fc2.weight", MATRIX),
        Row(f"{ours}.b_out", f"{theirs}.fc2.bias"),
    )


EMBEDDING = Row("embed.W_E", "shared.weight")

LAYERS = (
    *_attention("encoder.blocks.{l}.attn", "encoder.layers.{l}.self_attn"),
    *_norm("encoder.blocks.{l}.ln1", "encoder.layers.{l}.self_attn_layer_norm"),
    *_mlp("encoder.blocks.{l}.mlp", "encoder.layers.{l}"),
    *_norm("encoder.blocks.{l}.ln2", "encoder.layers.{l}.final_layer_norm"),
    *_attention("decoder.blocks.{l}.attn", "decoder.layers.{l}.self_attn"),
    *_norm("decoder.blocks.{l}.ln1", "decoder.layers.{l}.self_attn_layer_norm"),
    *_attention("decoder.blocks.{l}.cross_attn", "decoder.layers.{l}.encoder_attn"),
    *_norm("decoder.blocks.{l}.ln2", "decoder.layers.{l}.encoder_attn_layer_norm"),
    *_mlp("decoder.blocks.{l}.mlp", "decoder.layers.{l}"),
    *_norm("decoder.blocks.{l}.ln3", "decoder.layers.{l}.final_layer_norm"),
)

UNEMBEDDING = (
    Row(
        "unembed.W_U",
        "lm_head.weight",
        MATRIX,
        wanted=lambda cfg: not cfg.tie_word_embeddings,
    ),
    Row("unembed.b_U", "final_logits_bias", "1 d_vocab -> d_vocab", optional=True),
)

SHARED = ((r"(?:encoder|decoder)\.embed_tokens\.weight", "shared.weight"),)
COPIES = (
    ("encoder.embed_tokens.weight", "shared.weight"),
    ("decoder.embed_tokens.weight", "shared.weight"),
)

BART = Family(
    name="BART",
    description="encoder–decoder: Add & Norm, learned positions",
    architectures=("BartForConditionalGeneration", "BartModel"),
    model_types=("bart",),
    prefix="model.",
    rows=(
        EMBEDDING,
        Row("encoder.pos_embed.W_pos", "encoder.embed_positions.weight", skip=_FIRST_POSITION),
        Row("decoder.pos_embed.W_pos", "decoder.embed_positions.weight", skip=_FIRST_POSITION),
        *_norm("encoder.ln_embed", "encoder.layernorm_embedding"),
        *_norm("decoder.ln_embed", "decoder.layernorm_embedding"),
        *LAYERS,
        *UNEMBEDDING,
    ),
    ignored=(r"(encoder|decoder)\.version",),
    make_config=make_config,
    shape="encoder-decoder",
    renamed=SHARED,
    copies=COPIES,
)
