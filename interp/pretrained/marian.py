"""Marian (Junczys-Dowmunt et al. 2018): OPUS-MT's translators, with sinusoidal positions."""

from __future__ import annotations

from typing import Any

from interp.pretrained.bart import (
    COPIES,
    EMBEDDING,
    LAYERS,
    SHARED,
    UNEMBEDDING,
    stacks_config,
)
from interp.pretrained.family import Family, HfConfig, refuse


def make_config(config: HfConfig) -> dict[str, Any]:
    """Our fields from a `MarianConfig`."""
    refuse(
        config,
        share_encoder_decoder_embeddings=True,
        normalize_embedding=False,
        static_position_embeddings=True,
    )
    return {
        **stacks_config(config),
        "positional_embedding_type": "sinusoidal",
        "sinusoidal_layout": "halves",
    }


MARIAN = Family(
    name="Marian",
    description="encoder–decoder: Add & Norm, sinusoidal positions",
    architectures=("MarianMTModel", "MarianModel"),
    model_types=("marian",),
    prefix="model.",
    rows=(EMBEDDING, *LAYERS, *UNEMBEDDING),
    # The positions, which some files have, are a table of sines.
    ignored=(r"(encoder|decoder)\.embed_positions\.weight",),
    make_config=make_config,
    shape="encoder-decoder",
    renamed=SHARED,
    copies=COPIES,
)
