"""T5 (Raffel et al. 2020), T5 v1.1, Flan-T5, mT5: relative positions, RMSNorm, no biases."""

from __future__ import annotations

from typing import Any

from interp.config import HookedTransformerConfig
from interp.errors import InputError
from interp.pretrained.family import Family, HfConfig, Row, activation, required
from interp.pretrained.rows import HEADS, HEADS_OUT, MATRIX


def make_config(config: HfConfig) -> dict[str, Any]:
    """Our fields from a `T5Config`.

    Embeddings are tied unless the weights say otherwise. The first T5 scaled what it unembeds; that
    a later one does not is written as `tie_word_embeddings=False`, tied or not.
    """
    d_model = required(config, "d_model")
    n_encoder_layers = required(config, "num_layers")
    projection = config.get("feed_forward_proj", "relu")
    kind, _, act_fn = projection.rpartition("-")
    if kind not in ("", "gated"):
        raise InputError(f"feed_forward_proj must be ACT or gated-ACT. Received {projection!r}.")
    gated = kind == "gated"
    scales = config.get("scale_decoder_outputs", config.get("tie_word_embeddings", True))
    if config.get("model_type") == "mt5":
        scales = False
    start = config.get("decoder_start_token_id")
    return {
        "architecture": "encoder-decoder",
        "n_layers": config.get("num_decoder_layers") or n_encoder_layers,
        "n_encoder_layers": n_encoder_layers,
        "d_model": d_model,
        "n_heads": required(config, "num_heads"),
        "d_head": required(config, "d_kv"),
        "d_mlp": required(config, "d_ff"),
        "d_vocab": required(config, "vocab_size"),
        "n_ctx": config.get("n_positions") or 512,
        "act_fn": "gelu_new" if gated and act_fn == "gelu" else activation(act_fn),
        "gated_mlp": gated,
        "eps": config.get("layer_norm_epsilon", 1e-6),
        "normalization_type": "RMS",
        "use_attn_scale": False,
        "positional_embedding_type": "relative_positional_bias",
        "relative_attention_num_buckets": config.get("relative_attention_num_buckets", 32),
        "relative_attention_max_distance": config.get("relative_attention_max_distance", 128),
        "tie_word_embeddings": True,
        "logit_scale": d_model**-0.5 if scales else 1.0,
        "decoder_start_token_id": config.get("pad_token_id") if start is None else start,
    }


def _gated(cfg: HookedTransformerConfig) -> bool:
    return cfg.gated_mlp


def _plain(cfg: HookedTransformerConfig) -> bool:
    return not cfg.gated_mlp


def _attention(ours: str, theirs: str) -> tuple[Row, ...]:
    return (
        Row(f"{ours}.W_Q", f"{theirs}.q.weight", HEADS),
        Row(f"{ours}.W_K", f"{theirs}.k.weight", HEADS),
        Row(f"{ours}.W_V", f"{theirs}.v.weight", HEADS),
        Row(f"{ours}.W_O", f"{theirs}.o.weight", HEADS_OUT),
    )


def _mlp(ours: str, theirs: str) -> tuple[Row, ...]:
    return (
        Row(f"{ours}.W_in", f"{theirs}.wi.weight", MATRIX, wanted=_plain),
        Row(f"{ours}.W_gate", f"{theirs}.wi_0.weight", MATRIX, wanted=_gated),
        Row(f"{ours}.W_in", f"{theirs}.wi_1.weight", MATRIX, wanted=_gated),
        Row(f"{ours}.W_out", f"{theirs}.wo.weight", MATRIX),
    )


_BIAS = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"

T5 = Family(
    name="T5",
    description="encoder–decoder: relative positions, RMSNorm, no biases",
    architectures=(
        "T5ForConditionalGeneration",
        "T5WithLMHeadModel",
        "T5Model",
        "MT5ForConditionalGeneration",
        "MT5Model",
    ),
    model_types=("t5", "mt5"),
    prefix="",
    rows=(
        Row("embed.W_E", "shared.weight"),
        Row("encoder.pos_embed.W_rel", f"encoder.{_BIAS}"),
        Row("decoder.pos_embed.W_rel", f"decoder.{_BIAS}"),
        Row("encoder.blocks.{l}.ln1.w", "encoder.block.{l}.layer.0.layer_norm.weight"),
        *_attention("encoder.blocks.{l}.attn", "encoder.block.{l}.layer.0.SelfAttention"),
        Row("encoder.blocks.{l}.ln2.w", "encoder.block.{l}.layer.1.layer_norm.weight"),
        *_mlp("encoder.blocks.{l}.mlp", "encoder.block.{l}.layer.1.DenseReluDense"),
        Row("decoder.blocks.{l}.ln1.w", "decoder.block.{l}.layer.0.layer_norm.weight"),
        *_attention("decoder.blocks.{l}.attn", "decoder.block.{l}.layer.0.SelfAttention"),
        Row("decoder.blocks.{l}.ln2.w", "decoder.block.{l}.layer.1.layer_norm.weight"),
        *_attention("decoder.blocks.{l}.cross_attn", "decoder.block.{l}.layer.1.EncDecAttention"),
        Row("decoder.blocks.{l}.ln3.w", "decoder.block.{l}.layer.2.layer_norm.weight"),
        *_mlp("decoder.blocks.{l}.mlp", "decoder.block.{l}.layer.2.DenseReluDense"),
        Row("encoder.ln_final.w", "encoder.final_layer_norm.weight"),
        Row("decoder.ln_final.w", "decoder.final_layer_norm.weight"),
        Row(
            "unembed.W_U",
            "lm_head.weight",
            MATRIX,
            wanted=lambda cfg: not cfg.tie_word_embeddings,
        ),
    ),
    # Old files have positions of cross-attention, which nothing ever read.
    ignored=(r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",),
    make_config=make_config,
    shape="encoder-decoder",
    renamed=((r"(?:encoder|decoder)\.embed_tokens\.weight", "shared.weight"),),
    copies=(
        ("encoder.embed_tokens.weight", "shared.weight"),
        ("decoder.embed_tokens.weight", "shared.weight"),
    ),
)
