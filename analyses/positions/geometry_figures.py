"""The figures of `position-geometry`: charts of its tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from analyses.inputs.evenly import evenly
from analyses.positions.geometry_tables import N_ERRORS, Site
from interp.charts.spec import Chart

PANELS = 6  # sites that figures with a panel for each show


def figures(tables: dict[str, pd.DataFrame], known: Sequence[Site]) -> dict[str, Chart]:
    """The charts of these tables; marks in the tables which sites are drawn.

    Args:
        tables: `variance`, and the others where there are sites that know positions.
        known: Those sites.
    """
    charts = {
        "variance": Chart(
            kind="bars",
            table="variance",
            x="order",
            x_text="label",
            x_label="site",
            value="share",
            value_label="share of variance (± standard error)",
            error="stderr",
            color="verdict",
            title="How much of each site is position",
            alt="Variance between positions as a share of all variance, noise taken out, at each "
            "site in the model's order. It is called position where it is more than "
            f"{N_ERRORS:g} standard errors above zero.",
        )
    }
    if not known:
        return charts
    shown = evenly([site.label for site in known], PANELS)
    for name in ("trajectory", "similarity", "shift-curves", "periodogram"):
        if name in tables:
            mine = tables[name]["label"].str.removesuffix(", as it is").isin(shown)
            tables[name] = tables[name].assign(drawn=mine)
    charts["trajectory"] = Chart(
        kind="line",
        table="trajectory",
        where={"drawn": True},
        x="position",
        y="score",
        color="component",
        facet="label",
        title="Leading components of the mean by position",
        alt="The first three principal components' scores against position, one panel a site.",
    )
    charts["spectrum"] = spectrum_chart("spectrum")
    charts["periodogram"] = Chart(
        kind="line",
        table="periodogram",
        where={"drawn": True},
        x="period",
        x_label="period (positions)",
        y="share",
        y_label="share explained beyond a line",
        color="label",
        title="What one sine and cosine of each period explain",
        alt="Share of positional power by period, one line a site.",
    )
    charts["similarity"] = Chart(
        kind="line",
        table="similarity",
        where={"drawn": True},
        x="offset",
        y="correlation",
        y_label="x(t)·x(t + k) over that at k = 0 (± sd)",
        error="correlation_spread",
        facet="label",
        signed=True,
        title="How alike positions are by distance",
        alt="Mean product of the positional parts at two positions, over that at distance 0, by "
        "their distance; the band is narrow where the distance says all.",
    )
    if "shift-curves" in tables:
        charts["shift"] = Chart(
            kind="line",
            table="shift-curves",
            where={"drawn": True},
            x="offset",
            y="held_out_r2",
            y_label="held-out R² (at least -1)",
            color="map",
            facet="label",
            title="One linear map that moves every position on by k",
            alt="R² of the fitted map on positions it has not seen, beside that of no shift, and "
            "of the closed form where there is one.",
        )
    chances = tables["angles"]["random_overlap"]
    chance = f"{chances.min():.2g}"
    if chances.min() < chances.max():
        chance += f" … {chances.max():.2g}"
    charts["angles"] = Chart(
        kind="heatmap",
        table="angles",
        x="other_order",
        x_text="other_label",
        x_label="site",
        y="order",
        y_text="label",
        y_label="site",
        value="overlap",
        value_label="mean cos² of principal angles",
        probability=True,
        title=f"Do sites hold position in the same directions? (random: {chance})",
        alt="Overlap of the leading components of every two sites, each from one half of the "
        "sequences; noise keeps it below 1, and the diagonal says by how much.",
    )
    return charts


def spectrum_chart(table: str, **more: Any) -> Chart:
    """The power of each site's mean by position, by frequency.

    Args:
        table: The name of the table of spectra.
        **more: Other fields of the chart, such as `facet`.
    """
    return Chart(
        kind="heatmap",
        table=table,
        x="turns",
        x_label="turns over all positions",
        y="order",
        y_text="label",
        y_label="site",
        value="share",
        value_label="share of positional power",
        title="Positional power by frequency, a straight line taken out",
        alt="The discrete spectrum of the mean by position: sites down, frequencies across.",
        **more,
    )
