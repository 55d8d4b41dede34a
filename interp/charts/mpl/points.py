"""Points, and vectors from the origin."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from interp.charts.mpl.layout import (
    label_outer,
    legend_room,
    make_logarithmic,
    measured_ends,
    share_scale,
    subplots,
)
from interp.charts.palette import GRID, INK
from interp.charts.panels import Panel, colors_of, names_of, reach_of
from interp.charts.spec import Chart

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ALONE, _AMONG = (4.6, 3.6), (2.6, 2.4)  # inches of a panel
_SQUARE = {True: (3.4, 3.4), False: (2.0, 2.0)}
_VECTOR_DOTS = 2000  # more are stored as pixels, or the SVG would be huge


def draw_points(chart: Chart, drawn: list[Panel]) -> "Figure":
    """Draw points, one panel each, all on one scale."""
    assert chart.y is not None  # checked when the chart was made
    rows = pd.concat([panel.rows for panel in drawn])
    colors = colors_of(chart, rows)
    names = names_of(colors)
    alone = len(drawn) == 1
    width, height = _SQUARE[alone] if chart.vectors else _ALONE if alone else _AMONG
    legend, legend_columns = legend_room(chart, list(names.values()))
    figure, axes = subplots(
        chart, len(drawn), width, height, margin=(0.5 + legend, 0.3), legend=legend
    )
    size = 16 if len(rows) <= 400 * len(drawn) else 5
    for panel, each in zip(drawn, axes, strict=True):
        each.set_title(panel.title)
        each.grid(color=GRID, linewidth=0.6)
        for group, color in colors.items():
            part = panel.rows
            if chart.color is not None:
                part = part[part[chart.color] == group]
            x, y = part[chart.x].to_numpy(float), part[chart.y].to_numpy(float)
            if chart.vectors:
                each.plot(
                    np.stack([0 * x, x]), np.stack([0 * y, y]), color=color, linewidth=1.2, zorder=2
                )
            each.scatter(
                x, y, size, color=color, linewidths=0, zorder=3, rasterized=len(rows) > _VECTOR_DOTS
            )
        if chart.signed or chart.vectors:
            each.axhline(0, color=INK, linewidth=0.6, zorder=1)
        if chart.vectors:
            each.axvline(0, color=INK, linewidth=0.6, zorder=1)
            each.set_aspect("equal")
        make_logarithmic(chart, each)
    reach = (-reach_of(chart, rows), reach_of(chart, rows)) if chart.vectors else None
    share_scale(axes, "x", reach)
    share_scale(axes, "y", reach or measured_ends(chart))
    label_outer(chart.label("x"), chart.label("y"), axes, width)
    if chart.color is not None:
        handles = [
            Line2D([], [], color=color, marker="o", markersize=4, linewidth=0, label=names[group])
            for group, color in colors.items()
        ]
        figure.legend(
            handles=handles, title=chart.color, loc="outside right upper", ncols=legend_columns
        )
    return figure
