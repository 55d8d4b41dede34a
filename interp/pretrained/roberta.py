"""RoBERTa (Liu et al. 2019) and XLM-RoBERTa: BERT without segments, other heads."""

from __future__ import annotations

from typing import Any

from interp.pretrained.bert import (
    EMBEDDINGS,
    LAYERS,
    OLD_NORMS,
    classifies,
    encoder_config,
    has_mlm_head,
    has_own_unembedding,
    head_of,
)
from interp.pretrained.family import Family, HfConfig, Row, refuse
from interp.pretrained.rows import MATRIX

_HEAD_OF = {
    f"{name}{kind}": head
    for name in ("Roberta", "XLMRoberta", "Camembert")
    for kind, head in (
        ("ForMaskedLM", "mlm"),
        ("ForSequenceClassification", "classification"),
        ("Model", "lm"),
    )
}

# Positions begin after that of the pad token, which is 1.
_FIRST_POSITION = 2


def make_config(config: HfConfig) -> dict[str, Any]:
    """Our fields from a `RobertaConfig`."""
    refuse(config, pad_token_id=1)
    fields = {**encoder_config(config), **head_of(config, _HEAD_OF)}
    fields["n_ctx"] -= _FIRST_POSITION
    # The heads' own functions, whatever hidden_act is.
    heads = {"lm": None, "mlm": "gelu"}
    return {**fields, "head_act_fn": heads.get(fields["head"], "tanh")}


ROBERTA = Family(
    name="RoBERTa",
    description="encoder: Add & Norm, learned positions",
    architectures=tuple(_HEAD_OF),
    model_types=("roberta", "xlm-roberta", "camembert"),
    prefix="roberta.",
    rows=(
        *EMBEDDINGS,
        Row("pos_embed.W_pos", "embeddings.position_embeddings.weight", skip=_FIRST_POSITION),
        *LAYERS,
        Row("mlm_head.W", "lm_head.dense.weight", MATRIX, wanted=has_mlm_head),
        Row("mlm_head.b", "lm_head.dense.bias", wanted=has_mlm_head),
        Row("mlm_head.ln.w", "lm_head.layer_norm.weight", wanted=has_mlm_head),
        Row("mlm_head.ln.b", "lm_head.layer_norm.bias", wanted=has_mlm_head),
        Row("unembed.W_U", "lm_head.decoder.weight", MATRIX, wanted=has_own_unembedding),
        Row("unembed.b_U", "lm_head.decoder.bias", wanted=has_mlm_head),
        Row("pooler.W", "classifier.dense.weight", MATRIX, wanted=classifies),
        Row("pooler.b", "classifier.dense.bias", wanted=classifies),
        Row("unembed.W_U", "classifier.out_proj.weight", MATRIX, wanted=classifies),
        Row("unembed.b_U", "classifier.out_proj.bias", wanted=classifies),
    ),
    # The pooler of the pretrained models is one that no task of theirs uses.
    ignored=(r"embeddings\.position_ids", r"pooler\..*", r"lm_head\..*"),
    make_config=make_config,
    shape="encoder",
    renamed=(*OLD_NORMS, (r"lm_head\.bias", "lm_head.decoder.bias")),
)
