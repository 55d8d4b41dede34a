"""Attention patterns of several heads as one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch

from analyses.heads.attention_maps import cells_table, visible_sources

if TYPE_CHECKING:
    from interp.cache import ActivationCache


def patterns_table(
    cache: ActivationCache, heads: Sequence[tuple[int, int]], texts: Sequence[str]
) -> pd.DataFrame:
    """The attention patterns of some heads for one prompt, a row per destination and source.

    There is no row for a source that the destination cannot see, because it comes later or lies
    outside the layer's window: its attention is absent, not zero.

    Args:
        cache: Holding `pattern` of these heads' layers; the first row of its batch is taken.
        heads: Layer and number of each.
        texts: The tokens' texts.
    """
    frames = []
    for layer, head in heads:
        pattern = cache["pattern", layer][0, head].double().cpu()
        hidden = ~visible_sources(cache.model, layer, len(texts), len(texts))
        frame = cells_table(pattern.masked_fill(hidden, torch.nan).numpy(), texts, texts)
        frame.insert(0, "head", f"L{layer}H{head}")
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)
