"""DistilBERT (Sanh et al. 2019): BERT with half its layers and without segments."""

from __future__ import annotations

from typing import Any

from interp.pretrained.bert import (
    classifies,
    has_mlm_head,
    has_own_unembedding,
    head_of,
)
from interp.pretrained.family import Family, HfConfig, Row, activation, required
from interp.pretrained.rows import HEADS, HEADS_BIAS, HEADS_OUT, MATRIX

_HEAD_OF = {
    "DistilBertForMaskedLM": "mlm",
    "DistilBertForSequenceClassification": "classification",
    "DistilBertModel": "lm",
}


def make_config(config: HfConfig) -> dict[str, Any]:
    """Our fields from a `DistilBertConfig`. Sinusoidal positions are stored like learned ones."""
    act_fn = activation(config.get("activation", "gelu"))
    head = head_of(config, _HEAD_OF)
    return {
        "architecture": "encoder",
        "n_layers": required(config, "n_layers"),
        "d_model": required(config, "dim"),
        "n_heads": required(config, "n_heads"),
        "d_mlp": required(config, "hidden_dim"),
        "d_vocab": required(config, "vocab_size"),
        "n_ctx": required(config, "max_position_embeddings"),
        "act_fn": act_fn,
        "eps": 1e-12,
        "normalization_type": "LN",
        "norm_placement": "post",
        "post_embedding_ln": True,
        "positional_embedding_type": "standard",
        "head_act_fn": {"lm": None, "mlm": act_fn}.get(head["head"], "relu"),
        **head,
    }


DISTILBERT = Family(
    name="DistilBERT",
    description="encoder: Add & Norm, learned positions",
    architectures=tuple(_HEAD_OF),
    model_types=("distilbert",),
    prefix="distilbert.",
    rows=(
        Row("embed.W_E", "embeddings.word_embeddings.weight"),
        Row("pos_embed.W_pos", "embeddings.position_embeddings.weight"),
        Row("ln_embed.w", "embeddings.LayerNorm.weight"),
        Row("ln_embed.b", "embeddings.LayerNorm.bias"),
        Row("blocks.{l}.attn.W_Q", "transformer.layer.{l}.attention.q_lin.weight", HEADS),
        Row("blocks.{l}.attn.W_K", "transformer.layer.{l}.attention.k_lin.weight", HEADS),
        Row("blocks.{l}.attn.W_V", "transformer.layer.{l}.attention.v_lin.weight", HEADS),
        Row("blocks.{l}.attn.b_Q", "transformer.layer.{l}.attention.q_lin.bias", HEADS_BIAS),
        Row("blocks.{l}.attn.b_K", "transformer.layer.{l}.attention.k_lin.bias", HEADS_BIAS),
        Row("blocks.{l}.attn.b_V", "transformer.layer.{l}.attention.v_lin.bias", HEADS_BIAS),
        Row("blocks.{l}.attn.W_O", "transformer.layer.{l}.attention.out_lin.weight", HEADS_OUT),
        Row("blocks.{l}.attn.b_O", "transformer.layer.{l}.attention.out_lin.bias"),
        Row("blocks.{l}.ln1.w", "transformer.layer.{l}.sa_layer_norm.weight"),
        Row("blocks.{l}.ln1.b", "transformer.layer.{l}.sa_layer_norm.bias"),
        Row("blocks.{l}.mlp.W_in", "transformer.layer.{l}.ffn.lin1.weight", MATRIX),
        Row("blocks.{l}.mlp.b_in", "transformer.layer.{l}.ffn.lin1.bias"),
        Row("blocks.{l}.mlp.W_out", "transformer.layer.{l}.ffn.lin2.weight", MATRIX),
        Row("blocks.{l}.mlp.b_out", "transformer.layer.{l}.ffn.lin2.bias"),
        Row("blocks.{l}.ln2.w", "transformer.layer.{l}.output_layer_norm.weight"),
        Row("blocks.{l}.ln2.b", "transformer.layer.{l}.output_layer_norm.bias"),
        Row("mlm_head.W", "vocab_transform.weight", MATRIX, wanted=has_mlm_head),
        Row("mlm_head.b", "vocab_transform.bias", wanted=has_mlm_head),
        Row("mlm_head.ln.w", "vocab_layer_norm.weight", wanted=has_mlm_head),
        Row("mlm_head.ln.b", "vocab_layer_norm.bias", wanted=has_mlm_head),
        Row("unembed.W_U", "vocab_projector.weight", MATRIX, wanted=has_own_unembedding),
        Row("unembed.b_U", "vocab_projector.bias", wanted=has_mlm_head),
        Row("pooler.W", "pre_classifier.weight", MATRIX, wanted=classifies),
        Row("pooler.b", "pre_classifier.bias", wanted=classifies),
        Row("unembed.W_U", "classifier.weight", MATRIX, wanted=classifies),
        Row("unembed.b_U", "classifier.bias", wanted=classifies),
    ),
    ignored=(r"embeddings\.position_ids", r"vocab_.*"),
    make_config=make_config,
    shape="encoder",
)
