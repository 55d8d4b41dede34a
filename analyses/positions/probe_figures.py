"""Figures of the probes: along the residual stream, of the heads, and by number of dimensions."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from interp.charts.spec import Chart

ASKED = {
    "position": "the position of a token",
    "offset": "the offset from a mark",
    "order": "which of two marks came first",
}


def probe_figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Chart]:
    """Charts of the tables that are there."""
    charts: dict[str, Chart] = {}
    for target, probe in _asked(tables["by-layer"]):
        charts[f"{target}-{probe}-by-layer"] = _by_layer(target, probe)
    if "heads" in tables:
        for target, probe in _asked(tables["heads"]):
            charts[f"{target}-{probe}-heads"] = _heads(target, probe)
    if "dimensions" in tables:
        for target in tables["dimensions"]["target"].unique():
            charts[f"{target}-dimensions"] = _dimensions(target)
    return charts


def _asked(table: pd.DataFrame) -> list[tuple[str, str]]:
    found = table[["target", "probe"]].drop_duplicates()
    return list(found.itertuples(index=False, name=None))


def _by_layer(target: str, probe: str) -> Chart:
    return Chart(
        kind="line",
        table="by-layer",
        where={"target": target, "probe": probe},
        x="order",
        x_text="site",
        x_label="site in the residual stream",
        y="value",
        y_label="score (± 95 % interval)",
        facet="measure",
        color="fitted",
        error="error",
        title=f"What a {probe} probe reads of {ASKED[target]}",
        alt=f"R² and accuracy of a {probe} probe for {ASKED[target]} at each site of the residual "
        "stream, in this model and in its controls: shuffled targets, a random target for every "
        "token, relabelled targets, a model with random weights, the token alone, and chance.",
    )


def _heads(target: str, probe: str) -> Chart:
    return Chart(
        kind="heatmap",
        table="heads",
        where={"target": target, "probe": probe},
        x="head",
        y="layer",
        value="drawn",
        value_label="R² or accuracy, 0 if less",
        facet="panel",
        probability=True,
        title=f"What heads' vectors say of {ASKED[target]} ({probe})",
        alt=f"R² and accuracy of a {probe} probe for {ASKED[target]} on the queries, keys and "
        "outputs of each head, layers down, heads across.",
    )


def _dimensions(target: str) -> Chart:
    return Chart(
        kind="line",
        table="dimensions",
        where={"target": target},
        x="dimensions",
        x_label="dimensions read",
        log_x=True,
        y="value",
        y_label="score",
        facet="panel",
        color="site",
        title=f"How many dimensions carry {ASKED[target]}",
        alt=f"R² and accuracy of probes for {ASKED[target]} that read few dimensions, against how "
        "many: chosen features (sparse) and chosen directions (low rank).",
    )
