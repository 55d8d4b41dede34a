"""BERT (Devlin et al. 2019): Add & Norm, learned positions, segments, a head for each task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interp.config import HookedTransformerConfig
from interp.pretrained.family import Family, HfConfig, Row, activation, refuse, required
from interp.pretrained.rows import HEADS, HEADS_BIAS, HEADS_OUT, MATRIX

_HEAD_OF = {
    "BertForMaskedLM": "mlm",
    "BertForPreTraining": "mlm",
    "BertForNextSentencePrediction": "next-sentence",
    "BertForSequenceClassification": "classification",
    "BertModel": "lm",
}


def head_of(config: HfConfig, heads: Mapping[str, str]) -> dict[str, Any]:
    """Our fields for what the model's class makes of the last residual stream.

    A class that makes nothing of it unembeds it with the embedding.
    """
    named = config.get("architectures") or ()
    head = next((heads[name] for name in named if name in heads), "mlm")
    if head == "next-sentence":
        n_out = 2
    elif head == "classification":
        labels = config.get("id2label")
        n_out = len(labels) if labels else config.get("num_labels") or 2
    else:
        tied = head == "lm" or config.get("tie_word_embeddings", True)
        return {"head": head, "tie_word_embeddings": tied}
    return {"head": head, "tie_word_embeddings": False, "d_vocab_out": n_out}


def has_mlm_head(cfg: HookedTransformerConfig) -> bool:
    """Whether tokens are predicted through a transformation of their own."""
    return cfg.head == "mlm"


def has_own_unembedding(cfg: HookedTransformerConfig) -> bool:
    """Whether tokens are predicted by other vectors than those that embed them."""
    return not cfg.classifies and not cfg.tie_word_embeddings


def classifies(cfg: HookedTransformerConfig) -> bool:
    """Whether sequences are sorted into classes."""
    return cfg.head == "classification"


def make_config(config: HfConfig) -> dict[str, Any]:
    """Our fields from a `BertConfig`."""
    head = head_of(config, _HEAD_OF)
    fields = {**encoder_config(config), **head}
    if head["head"] != "lm":
        fields["head_act_fn"] = fields["act_fn"] if head["head"] == "mlm" else "tanh"
    return fields


def encoder_config(config: HfConfig) -> dict[str, Any]:
    """Our fields of a BERT without its head."""
    refuse(config, is_decoder=False, add_cross_attention=False, position_embedding_type="absolute")
    return {
        "architecture": "encoder",
        "n_layers": required(config, "num_hidden_layers"),
        "d_model": required(config, "hidden_size"),
        "n_heads": required(config, "num_attention_heads"),
        "d_mlp": required(config, "intermediate_size"),
        "d_vocab": required(config, "vocab_size"),
        "n_ctx": required(config, "max_position_embeddings"),
        "n_token_types": config.get("type_vocab_size", 2),
        "act_fn": activation(config.get("hidden_act", "gelu")),
        "eps": config.get("layer_norm_eps", 1e-12),
        "normalization_type": "LN",
        "norm_placement": "post",
        "post_embedding_ln": True,
        "positional_embedding_type": "standard",
    }


EMBEDDINGS = (
    Row("embed.W_E", "embeddings.word_embeddings.weight"),
    Row("token_type_embed.W_token_type", "embeddings.token_type_embeddings.weight"),
    Row("ln_embed.w", "embeddings.LayerNorm.weight"),
    Row("ln_embed.b", "embeddings.LayerNorm.bias"),
)

LAYERS = (
    Row("blocks.{l}.attn.W_Q", "encoder.layer.{l}.attention.self.query.weight", HEADS),
    Row("blocks.{l}.attn.W_K", "encoder.layer.{l}.attention.self.key.weight", HEADS),
    Row("blocks.{l}.attn.W_V", "encoder.layer.{l}.attention.self.value.weight", HEADS),
    Row("blocks.{l}.attn.b_Q", "encoder.layer.{l}.attention.self.query.bias", HEADS_BIAS),
    Row("blocks.{l}.attn.b_K", "encoder.layer.{l}.attention.self.key.bias", HEADS_BIAS),
    Row("blocks.{l}.attn.b_V", "encoder.layer.{l}.attention.self.value.bias", HEADS_BIAS),
    Row("blocks.{l}.attn.W_O", "encoder.layer.{l}.attention.output.dense.weight", HEADS_OUT),
    Row("blocks.{l}.attn.b_O", "encoder.layer.{l}.attention.output.dense.bias"),
    Row("blocks.{l}.ln1.w", "encoder.layer.{l}.attention.output.LayerNorm.weight"),
    Row("blocks.{l}.ln1.b", "encoder.layer.{l}.attention.output.LayerNorm.bias"),
    Row("blocks.{l}.mlp.W_in", "encoder.layer.{l}.intermediate.dense.weight", MATRIX),
    Row("blocks.{l}.mlp.b_in", "encoder.layer.{l}.intermediate.dense.bias"),
    Row("blocks.{l}.mlp.W_out", "encoder.layer.{l}.output.dense.weight", MATRIX),
    Row("blocks.{l}.mlp.b_out", "encoder.layer.{l}.output.dense.bias"),
    Row("blocks.{l}.ln2.w", "encoder.layer.{l}.output.LayerNorm.weight"),
    Row("blocks.{l}.ln2.b", "encoder.layer.{l}.output.LayerNorm.bias"),
)

# Files from before 2019 call a norm's weight gamma and its bias beta.
OLD_NORMS = ((r"(.*LayerNorm)\.gamma", r"\1.weight"), (r"(.*LayerNorm)\.beta", r"\1.bias"))


def _next_sentence(cfg: HookedTransformerConfig) -> bool:
    return cfg.head == "next-sentence"


def _pools(cfg: HookedTransformerConfig) -> bool:
    return cfg.classifies


BERT = Family(
    name="BERT",
    description="encoder: Add & Norm, learned positions, segments",
    architectures=tuple(_HEAD_OF),
    model_types=("bert",),
    prefix="bert.",
    rows=(
        *EMBEDDINGS,
        Row("pos_embed.W_pos", "embeddings.position_embeddings.weight"),
        *LAYERS,
        Row("mlm_head.W", "cls.predictions.transform.dense.weight", MATRIX, wanted=has_mlm_head),
        Row("mlm_head.b", "cls.predictions.transform.dense.bias", wanted=has_mlm_head),
        Row("mlm_head.ln.w", "cls.predictions.transform.LayerNorm.weight", wanted=has_mlm_head),
        Row("mlm_head.ln.b", "cls.predictions.transform.LayerNorm.bias", wanted=has_mlm_head),
        Row(
            "unembed.W_U",
            "cls.predictions.decoder.weight",
            MATRIX,
            wanted=has_own_unembedding,
        ),
        Row("unembed.b_U", "cls.predictions.decoder.bias", wanted=has_mlm_head),
        Row("pooler.W", "pooler.dense.weight", MATRIX, wanted=_pools),
        Row("pooler.b", "pooler.dense.bias", wanted=_pools),
        Row("unembed.W_U", "cls.seq_relationship.weight", MATRIX, wanted=_next_sentence),
        Row("unembed.b_U", "cls.seq_relationship.bias", wanted=_next_sentence),
        Row("unembed.W_U", "classifier.weight", MATRIX, wanted=classifies),
        Row("unembed.b_U", "classifier.bias", wanted=classifies),
    ),
    # A checkpoint from pretraining has both of its heads, whichever its class reads.
    ignored=(
        r"embeddings\.position_ids",
        r"pooler\..*",
        r"cls\.(predictions|seq_relationship)\..*",
    ),
    make_config=make_config,
    shape="encoder",
    renamed=(*OLD_NORMS, (r"cls\.predictions\.bias", "cls.predictions.decoder.bias")),
)
