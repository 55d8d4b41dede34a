"""What attention does with position, as charts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from interp.charts.spec import Chart


def attention_figures(tables: Mapping[str, pd.DataFrame], rows: str) -> dict[str, Chart]:
    """The charts of these tables; `rows` says in words what was read."""
    charts = {
        "score-parts": Chart(
            kind="bars",
            table="score-parts",
            where={"leading": True},
            x="label",
            x_label="head",
            value="share",
            value_label="share of the variance of scores over keys",
            color="part",
            title=f"What scores are made of, on {rows}: query's part - key's part",
            alt="For the heads whose scores differ most, the share of each part in the variance of "
            "their scores over keys. Shares of a head sum to 1; one may be negative.",
        ),
        "pattern-change": Chart(
            kind="heatmap",
            table="score-parts",
            x="head",
            y="layer",
            value="pattern_change",
            value_label="attention moved",
            facet="part",
            probability=True,
            title="Attention that moves when a part is left out",
            alt="How much of every head's attention would lie elsewhere without a part of its "
            "scores, layers down, heads across.",
        ),
        "offsets": Chart(
            kind="heatmap",
            table="offsets",
            where={"leading": True},
            x="offset",
            x_label="tokens back",
            y="order",
            y_text="label",
            y_label="head",
            value="attention",
            probability=True,
            title="Attention by offset, of the heads that offset explains best",
            alt="Mean attention at each offset, without the first token, for the heads whose "
            "pattern the offset explains best.",
        ),
    }
    charts["distance-distribution"] = Chart(
        kind="heatmap",
        table="distance-distribution",
        where={"leading": True},
        x="distance",
        x_label="tokens away",
        y="order",
        y_text="label",
        y_label="head",
        value="attention",
        probability=True,
        title="How far away attention lies, of the heads that offset explains best",
        alt="The distribution of attention over distances, the first token included, for the heads "
        "whose pattern the offset explains best. Few queries have tokens far away.",
    )
    if not tables["score-parts"]["leading"].all():
        charts["score-parts-by-head"] = Chart(
            kind="heatmap",
            table="score-parts",
            x="head",
            y="layer",
            value="share",
            value_label="share of variance",
            facet="part",
            signed=True,
            title="What the scores of every head are made of",
            alt="The share of each part in the variance of every head's scores, layers down, heads "
            "across.",
        )
    for name, table, value, label, title, alt in _BY_HEAD:
        charts[name] = Chart(
            kind="heatmap",
            table=table,
            x="head",
            y="layer",
            value=value,
            value_label=label,
            probability=table == "heads",
            title=title,
            alt=alt,
        )
    if "rotary" in tables:
        charts.update(_rotary_figures())
    if "bias-curves" in tables:
        charts["bias-curves"] = Chart(
            kind="line",
            table="bias-curves",
            x="offset",
            x_label="tokens back",
            y="score",
            y_label="added to the score (nats)",
            color="label",
            title="What the encoding adds to the scores",
            alt="For each head, what positions add to its scores by offset, in every layer.",
        )
    return charts


_BY_HEAD = [
    (
        "offset-r2",
        "heads",
        "offset_r2",
        "R²",
        "How much of each pattern the offset explains",
        "The fraction of the variance of every head's pattern that a function of the offset "
        "explains, layers down, heads across.",
    ),
    (
        "distances",
        "distances",
        "mean",
        "tokens",
        "How far heads look on average",
        "The mean distance of every head's attention, layers down, heads across.",
    ),
    (
        "sinks",
        "heads",
        "first_token",
        "attention mass",
        "Attention to the first token",
        "How much of every head's attention goes to the first token, layers down, heads across.",
    ),
]


def _rotary_figures() -> dict[str, Chart]:
    bands: dict[str, Any] = {
        "kind": "heatmap",
        "table": "rotary",
        "where": {"leading": True},
        "x": "band",
        "x_text": "band_label",
        "x_label": "wavelength in tokens, fast to slow",
        "y": "order",
        "y_text": "label",
        "y_label": "head",
    }
    return {
        "rotary": Chart(
            **bands,
            value="share",
            value_label="share of variance",
            signed=True,
            title="Which rotary frequencies make the scores differ",
            alt="The share of each frequency in the variance over keys of the scores, for the "
            "heads whose scores differ most.",
        ),
        "rotary-use": Chart(
            **bands,
            value="offset_r2",
            value_label="R²",
            probability=True,
            title="How much of what each frequency adds the offset explains",
            alt="How much of what each frequency adds to the scores is explained by the offset "
            "alone (the rest goes with content), for the heads whose scores differ most.",
        ),
        "rotary-curves": Chart(
            kind="line",
            table="rotary-curves",
            where={"leading": True},
            x="offset",
            x_label="tokens back",
            y="score",
            y_label="score, less its mean (nats)",
            color="label",
            title="The score of the mean query and key by offset",
            alt="By offset, the score that each head gives to its mean key with its mean query: "
            "what it prefers whatever the content.",
        ),
    }
