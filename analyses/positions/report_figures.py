"""The page of figures: a dozen charts of the merged tables, models by colour or by panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analyses.positions.geometry_figures import spectrum_chart
from analyses.positions.report_merging import by_layer, common_order
from interp.charts.spec import Chart, Scalar

# Of the probes' tables, what is drawn.
READ: dict[str, Scalar] = {"target": "position", "probe": "ridge"}


def add_drawn_tables(tables: dict[str, pd.DataFrame], models: Sequence[str]) -> None:
    """Add what charts of several models need: places in common, names of panels, and means."""
    several = len(models) > 1
    if "probes-by-layer" in tables:
        table = with_places(tables["probes-by-layer"], "site")
        panel = table["model"] + ": " + table["measure"] if several else table["measure"]
        tables["probes-by-layer"] = table.assign(panel=panel)
    if "geometry-variance" in tables:
        tables["geometry-variance"] = with_places(tables["geometry-variance"], "label")
    if "geometry-trajectory" in tables:
        tables["geometry-trajectory"] = _chosen_trajectory(
            tables["geometry-trajectory"], tables["geometry-variance"]
        )
    if "attention-score-parts" in tables:
        tables["attention-score-parts-by-layer"] = (
            tables["attention-score-parts"]
            .groupby(["model", "layer", "part"], sort=False, as_index=False)[["share", "mean_abs"]]
            .mean()
        )
    if "interventions-subspace" in tables:
        table = tables["interventions-subspace"]
        largest = table.groupby("model")["rank"].transform("max")
        rank = table["rank"].astype(str)
        tables["interventions-subspace"] = table.assign(
            largest_rank=table["rank"] == largest, panel=table["model"] + ", rank " + rank
        )
    if "length-by-length" in tables:
        for name, drawn in (("length-by-length", "drawn"), ("length-by-position", "longest")):
            table = tables[name]
            tables[name] = table.assign(compared=(table["variant"] == "plain") & table[drawn])


def with_places(table: pd.DataFrame, site: str) -> pd.DataFrame:
    """A column `place` that puts a site at the same place in all models."""
    orders = [
        of_model.sort_values("order")[site].drop_duplicates().tolist()
        for _, of_model in table.groupby("model", sort=False)
    ]
    place = {name: i for i, name in enumerate(by_layer(common_order(orders)))}
    return table.assign(place=table[site].map(place))


def _chosen_trajectory(table: pd.DataFrame, variance: pd.DataFrame) -> pd.DataFrame:
    """Marks one site of each model, where position is the largest share of the stream.

    Streams of different models differ in length: `relative` puts scores over a site's largest.
    """
    inside = variance[variance["label"] != "encoding"]
    inside = inside[_key(inside).isin(set(_key(table)))].dropna(subset="share")
    best = inside.loc[inside.groupby("model")["share"].idxmax()]
    panel = _key(table)
    largest = table["score"].abs().groupby(panel).transform("max")
    return table.assign(
        chosen=panel.isin(set(_key(best))), panel=panel, relative=table["score"] / largest
    )


def _key(table: pd.DataFrame) -> pd.Series:
    return table["model"] + ", " + table["label"]


def report_figures(tables: Mapping[str, pd.DataFrame], models: Sequence[str]) -> dict[str, Chart]:
    """The charts that the tables at hand have rows for, in the order of the page."""
    several = len(models) > 1
    found = {}
    for name, chart in _charts(several).items():
        table = tables.get(chart.table)
        if table is not None and _has_rows(chart, table):
            found[name] = chart
    return found


def _has_rows(chart: Chart, table: pd.DataFrame) -> bool:
    if not set(chart.columns.values()) <= set(table):
        return False
    rows = table
    for column, wanted in chart.where.items():
        rows = rows[rows[column] == wanted]
    return bool(rows[chart.measure].notna().any())


def _charts(several: bool) -> dict[str, Chart]:
    color: dict[str, Any] = {"color": "model"} if several else {}
    facet: dict[str, Any] = {"facet": "model"} if several else {}
    probed: dict[str, Any] = {
        "kind": "line",
        "table": "probes-by-layer",
        "x": "place",
        "x_text": "site",
        "x_label": "site",
        "y": "value",
        "y_label": "held-out (± half a 95 % interval)",
        "error": "error",
    }
    charts: dict[str, Chart] = {}
    if several:
        charts["position-read"] = Chart(
            **probed,
            where={**READ, "fitted": "this model"},
            facet="measure",
            title="What a ridge probe reads of position",
            alt="R² and accuracy of position by site, a line for each model.",
            **color,
        )
    charts["position-read-and-controls"] = Chart(
        **probed,
        where=READ,
        color="fitted",
        facet="panel",
        title=f"A ridge probe for position beside its controls{', model by model' * several}",
        alt="R² and accuracy of position by site: the model's, and those of shuffled targets, a "
        "control task, relabelled positions, random weights, and the token alone.",
    )
    charts["positional-share"] = Chart(
        kind="line",
        table="geometry-variance",
        x="place",
        x_text="label",
        x_label="site",
        y="share",
        y_label="share of variance (± standard error)",
        error="stderr",
        title="How much of each site is position",
        alt="Variance between positions as a share of all variance, noise taken out, by site.",
        **color,
    )
    charts["trajectory"] = Chart(
        kind="line",
        table="geometry-trajectory",
        where={"chosen": True},
        x="position",
        y="relative",
        y_label="score (over the largest)",
        color="component",
        facet="panel",
        signed=True,
        title="Leading components of the mean by position, at the site where its share is largest",
        alt="The first three principal components' scores against position.",
    )
    charts["spectrum"] = spectrum_chart("geometry-spectrum", **facet)
    charts["similarity"] = Chart(
        kind="line",
        table="geometry-similarity",
        where={"drawn": True},
        x="offset",
        y="correlation",
        y_label="x(t)·x(t + k), over that at k = 0",
        color="label",
        signed=True,
        title="How alike positions are by distance",
        alt="Mean product of the positional parts at two positions, over that at distance 0, by "
        "distance, a line for each site.",
        **facet,
    )
    charts["score-parts"] = Chart(
        kind="bars",
        table="attention-score-parts-by-layer",
        x="layer",
        value="share",
        value_label="share of variance over keys",
        color="part",
        signed=True,
        title="What scores are made of, query's part - key's part, mean over heads",
        alt="Each part's share of what makes scores differ between keys, by layer.",
        **facet,
    )
    charts["attention-by-offset"] = Chart(
        kind="heatmap",
        table="attention-offsets",
        where={"leading": True},
        x="offset",
        x_label="offset (positions back)",
        y="order",
        y_text="label",
        y_label="head",
        value="attention",
        probability=True,
        title="Attention by offset, of the heads that offset explains best",
        alt="Mean attention at each distance back, a row for each head.",
        **facet,
    )
    charts["offset-explains"] = Chart(
        kind="heatmap",
        table="attention-heads",
        x="head",
        y="layer",
        value="position_r2",
        value_label="R² of query and key position",
        title="How much of every head's pattern position alone explains",
        alt="Share of the variance of attention that the two positions explain, by layer and head.",
        **facet,
    )
    charts["moved-positions"] = Chart(
        kind="bars",
        table="interventions-effects",
        x="what",
        x_label="positions",
        value="kl",
        value_label="KL to the clean predictions (nats, ± se)",
        error="kl_stderr",
        facet="tokens",
        title="What moved positions do to predictions, by whose positions are moved",
        alt="Mean KL divergence after positions were shifted, shuffled, frozen, zeroed or swapped.",
        **color,
    )
    charts["subspace"] = Chart(
        kind="line",
        table="interventions-subspace",
        where={"largest_rank": True},
        x="layer",
        x_label="layer (the last: after all)",
        y="kl",
        y_label="KL (nats, ± sd over draws, or se)",
        error="kl_error",
        color="which",
        facet="panel",
        title="Predictions without the stream's positional subspace, and without random ones",
        alt="KL divergence after a subspace of the stream was removed, by layer: the probe's, that "
        "of position means, and random ones of equal rank and of equal variance.",
    )
    told_apart = color if several else {"color": "label"}
    charts["accuracy-by-length"] = Chart(
        kind="line",
        table="length-by-length",
        where={"compared" if several else "drawn": True},
        x="doublings",
        x_text="times",
        x_label="length of rows (1×: as trained)",
        y="accuracy",
        y_label="accuracy (± se)",
        error="accuracy_stderr",
        facet="distances",
        title="Accuracy by length (no point where a model refuses a length)",
        alt="Accuracy by length of the rows, in multiples of the trained length.",
        **told_apart,
    )
    charts["loss-by-position"] = Chart(
        kind="line",
        table="length-by-position",
        where={"compared" if several else "longest": True},
        x="trained_lengths",
        x_label="position (1: the trained length)",
        y="loss",
        y_label="loss (nats, ± se)",
        error="loss_stderr",
        facet="distances",
        title="Loss by position in the longest rows",
        alt="Loss by position, in multiples of the trained length.",
        **told_apart,
    )
    return charts
