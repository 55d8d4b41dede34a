"""What attention does with position, as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from interp.position_effects import (
    AttentionDistances,
    BiasCurves,
    ExplainedPatterns,
    MeanPatterns,
    RecoveredBias,
    RotaryBands,
    ScorePartStatistics,
    attention_distances,
    offset_curves,
)

LEADING = 12
"""Heads whose offsets, parts and bands are drawn."""
LINES = 6
"""Heads whose curves are drawn as lines."""


def heads_table(
    patterns: MeanPatterns, explained: ExplainedPatterns, learned_sinks: bool
) -> pd.DataFrame:
    """One row for each head: what explains its pattern, how sharp it is, what the first gets and,
    with `learned_sinks`, what the head's own sink takes."""
    columns = {
        "offset_r2": explained.offset,
        "key_r2": explained.key,
        "both_r2": explained.both,
        "position_r2": explained.position,
        "first_token": patterns.first_mass(),
        "even_first_token": _by_head(patterns.even_first_mass(), patterns),
        "entropy": patterns.mean_entropy(),
        "even_entropy": _by_head(patterns.even_entropy(), patterns),
    }
    if learned_sinks:
        columns["learned_sink"] = patterns.learned_sink_mass()
    return _of_heads(columns, patterns)


def distances_table(patterns: MeanPatterns, whole: AttentionDistances) -> pd.DataFrame:
    """One row for each head: how far it looks, beside even attention; with the first token and
    (`without_first`) only as it attends to others."""
    beyond = attention_distances(patterns, skip_first=True)
    columns = {
        "mean": whole.mean(),
        "even_mean": _by_head(whole.even_mean(), patterns),
        "quartile": whole.quantile(0.25),
        "median": whole.quantile(0.5),
        "third_quartile": whole.quantile(0.75),
        "without_first": beyond.mean(),
        "even_without_first": _by_head(beyond.even_mean(), patterns),
    }
    return _of_heads(columns, patterns)


def distance_distribution_table(found: AttentionDistances, heads: pd.DataFrame) -> pd.DataFrame:
    """How each head's attention spreads over distances, beside even attention; `leading` marks the
    heads that the offset explains."""
    n_layers, n_heads, n = found.mass.shape
    table = _repeated(_names(range(n_layers), n_heads), n)
    table["distance"] = found.distances.tolist() * (n_layers * n_heads)
    table["attention"] = found.mass.flatten().tolist()
    even = found.even_mass[:, None].expand(-1, n_heads, -1)
    table["even_attention"] = even.flatten().tolist()
    return _with_leading(table, heads["offset_r2"])


def _of_heads(columns: Mapping[str, Tensor], patterns: MeanPatterns) -> pd.DataFrame:
    n_layers, n_heads = patterns.mean.shape[:2]
    values = {name: of.flatten().tolist() for name, of in columns.items()}
    return pd.DataFrame({**_names(range(n_layers), n_heads), **values})


def offsets_table(patterns: MeanPatterns, heads: pd.DataFrame) -> pd.DataFrame:
    """Each head's mean attention at each offset; `leading` marks those that the offset explains."""
    offsets, curves = offset_curves(patterns)
    n_layers, n_heads, n = curves.shape
    table = _repeated(_names(range(n_layers), n_heads), n)
    table["offset"] = offsets.tolist() * (n_layers * n_heads)
    table["attention"] = curves.flatten().tolist()
    return _with_leading(table, heads["offset_r2"])


def score_parts_table(statistics: ScorePartStatistics) -> pd.DataFrame:
    """One row for each head and part; `leading` marks the heads whose scores differ most."""
    n_layers, n_heads, n = statistics.share.shape
    table = _repeated(_names(statistics.layers, n_heads), n)
    table["part"] = list(statistics.names) * (n_layers * n_heads)
    for name in ("share", "spread", "mean_abs", "pattern_change"):
        table[name] = getattr(statistics, name).flatten().tolist()
    return _with_leading(table, pd.Series(statistics.total_spread.flatten().tolist()))


def rotary_table(bands: RotaryBands) -> pd.DataFrame:
    """One row for each head and band; `leading` marks the heads with the largest scores."""
    n_layers, n_heads, n = bands.share.shape
    table = _repeated(_names(bands.layers, n_heads), n)
    table["band"] = list(range(n)) * (n_layers * n_heads)
    for name, of in (("frequency", bands.frequencies), ("wavelength", bands.wavelengths)):
        table[name] = of[:, None].expand(-1, n_heads, -1).flatten().tolist()
    same = bool((bands.frequencies == bands.frequencies[0]).all())
    table["band_label"] = [
        _band_label(band, wavelength if same else None)
        for band, wavelength in zip(table["band"], table["wavelength"], strict=True)
    ]
    for name in ("share", "spread", "mean_abs", "offset_r2", "amplitude", "phase"):
        table[name] = getattr(bands, name).flatten().tolist()
    return _with_leading(table, pd.Series(bands.spread.pow(2).sum(-1).flatten().tolist()))


def rotary_heads_table(bands: RotaryBands, length: int) -> pd.DataFrame:
    """One row for each head: the shares of high frequencies, which turn at least once within the
    rows, of low ones, and of what does not turn; they sum to 1."""
    n_heads = bands.share.shape[1]
    wavelengths = bands.wavelengths
    fast, still = wavelengths <= length, wavelengths.isinf()
    table = pd.DataFrame(_names(bands.layers, n_heads))
    for name, chosen in (("fast", fast), ("slow", ~fast & ~still), ("still", still)):
        share = (bands.share * chosen[:, None]).sum(-1)
        table[f"{name}_share"] = share.flatten().tolist()
    return table


def rotary_curves_table(bands: RotaryBands, length: int, causal: bool) -> pd.DataFrame:
    """The score of each head's mean query and mean key by offset, less its mean over offsets."""
    offsets = torch.arange(0 if causal else 1 - length, length)
    curves = bands.curves(offsets).sum(2)
    curves = curves - curves.mean(-1, keepdim=True)
    n_layers, n_heads, n = curves.shape
    table = _repeated(_names(bands.layers, n_heads), n)
    table["offset"] = offsets.tolist() * (n_layers * n_heads)
    table["score"] = curves.flatten().tolist()
    return _with_leading(table, pd.Series(curves.std(-1).flatten().tolist()), LINES)


def bias_curves_table(curves: BiasCurves) -> pd.DataFrame:
    """What the encoding adds to the scores of each head at each offset (the same in all layers)."""
    n_heads, n = curves.curve.shape
    attention = curves.attention()
    rows: dict[str, list[Any]] = {
        "head": [head for head in range(n_heads) for _ in range(n)],
        "label": [f"H{head}" for head in range(n_heads) for _ in range(n)],
        "offset": curves.offsets.tolist() * n_heads,
        "score": curves.curve.double().flatten().tolist(),
        "attention_by_bias_alone": attention.flatten().tolist(),
    }
    if curves.buckets is not None:
        buckets = curves.buckets.tolist()
        rows["bucket"] = buckets * n_heads
        begins = [a != b for a, b in zip(buckets, [None, *buckets], strict=False)]
        rows["bucket_begins"] = begins * n_heads
    return pd.DataFrame(rows)


def bias_heads_table(curves: BiasCurves, recovered: list[RecoveredBias]) -> pd.DataFrame:
    """One row for each head: how far its bias alone lets it look, and ALiBi's slopes."""
    half = curves.half_distance().tolist()
    rows: dict[str, list[float]] = {
        "head": list(range(len(half))),
        "half_distance": half,
        "range_of_bias": (curves.curve.amax(-1) - curves.curve.amin(-1)).tolist(),
    }
    if curves.slopes is not None:
        found = torch.stack([of.slopes() for of in recovered])
        off = (found - curves.slopes.double()).abs().argmax(0)
        rows["slope"] = curves.slopes.double().tolist()
        rows["slope_from_scores"] = found.gather(0, off[None])[0].tolist()
    return pd.DataFrame(rows)


def _names(layers: range | tuple[int, ...], n_heads: int) -> dict[str, list[int] | list[str]]:
    pairs = [(layer, head) for layer in layers for head in range(n_heads)]
    return {
        "layer": [layer for layer, _ in pairs],
        "head": [head for _, head in pairs],
        "label": [f"L{layer}H{head}" for layer, head in pairs],
    }


def _repeated(names: dict[str, list[int] | list[str]], n: int) -> pd.DataFrame:
    """These names, each n times over."""
    table = pd.DataFrame(names)
    order = table.index.repeat(n)
    return table.loc[order].assign(order=order).reset_index(drop=True)


def _with_leading(table: pd.DataFrame, size: pd.Series, most: int = LEADING) -> pd.DataFrame:
    """Mark the heads that are largest by this measure, given in their order."""
    leading = size.fillna(-math.inf).nlargest(most).index
    return table.assign(leading=table["order"].isin(leading))


def _by_head(by_layer: Tensor, patterns: MeanPatterns) -> Tensor:
    return by_layer[:, None].expand(-1, patterns.mean.shape[1])


def _band_label(band: int, wavelength: float | None) -> str:
    if wavelength is None:
        return str(band)
    if math.isinf(wavelength):
        return "still"
    return f"{wavelength:.1f}" if wavelength < 100 else f"{wavelength:.0f}"
