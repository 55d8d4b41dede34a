"""Charts for pages, drawn with plotly. Needs the extra `dashboard`."""

from typing import TYPE_CHECKING

import pandas as pd

from interp.charts.graphs import graph
from interp.charts.interactive.template import template
from interp.charts.interactive.text import plain
from interp.charts.palette import theme
from interp.charts.panels import TITLE_LIMIT, grids, panels
from interp.charts.spec import Chart
from interp.charts.tokens import shortened
from interp.errors import require, require_extra

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["MOST_CLICKABLE", "draw", "plain"]

MOST_CLICKABLE = 40_000
"""Cells of a heatmap that can be points to select: a page with more would be slow."""


def draw(
    chart: Chart, table: pd.DataFrame, dark: bool = False, clickable: bool = False
) -> "go.Figure":
    """Draw a chart; its text alternative is in `figure.layout.meta["alt"]`.

    Args:
        chart: What to draw.
        table: The table that the chart names, all rows of it.
        dark: For a dark page.
        clickable: Lay a point that is not seen over each cell of a heatmap or attention chart,
            blank ones left out, so that it can be selected, as a cell of plotly's cannot. Its
            `customdata` begins with the cell's x and y as the table has them, and its facet where
            the chart has one. The trace is the last of its panel.

    Raises:
        InputError: As `Chart.rows`; if `clickable` is asked of another kind of chart, or of more
            than `MOST_CLICKABLE` cells.
        MissingExtraError: If plotly is not installed.
    """
    require_extra("plotly", "dashboard")
    from interp.charts.interactive.graphs import draw_graph
    from interp.charts.interactive.heatmaps import draw_grids
    from interp.charts.interactive.marks import draw_marks
    from interp.charts.interactive.points import draw_points

    cells = chart.kind in ("heatmap", "attention")
    require(cells or not clickable, f"only heatmaps have clickable cells. Received {chart.kind!r}")
    colors = theme(dark)
    if cells:
        drawn = grids(chart, table)
        n_cells = sum(grid.values.size for grid in drawn)
        require(
            not clickable or n_cells <= MOST_CLICKABLE,
            f"at most {MOST_CLICKABLE:,} cells can be clickable. Received {n_cells:,}",
        )
        sketch = draw_grids(chart, drawn, colors, clickable)
    elif chart.kind == "graph":
        sketch = draw_graph(chart, graph(chart, table, colors), colors)
    elif chart.kind == "points":
        sketch = draw_points(chart, panels(chart, table), colors)
    else:
        sketch = draw_marks(chart, panels(chart, table), colors)
    sketch.layout |= {
        "title": {"text": plain(shortened(chart.title, TITLE_LIMIT))},
        "meta": {"alt": chart.alt},
        "template": template(colors),
    }
    return sketch.figure()
