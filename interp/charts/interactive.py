"""Charts for pages, drawn with plotly. Needs the extra `dashboard`."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interp.charts.graphs import graph
from interp.charts.interactive_graphs import draw_graph, plain
from interp.charts.palette import (
    BLANK,
    DIVERGING,
    GRID,
    INK,
    NEGATIVE,
    POSITIVE,
    SEQUENTIAL,
)
from interp.charts.panels import (
    Axis,
    Grid,
    Panel,
    colors_of,
    grids,
    lanes,
    limits,
    panels,
    places_of,
    reach_of,
    ticks,
)
from interp.charts.spec import Chart
from interp.errors import require_extra

if TYPE_CHECKING:
    import plotly.graph_objects as go

_PANEL = 300  # the height in pixels of one row of panels
_MAX_LABELS = 55  # on one axis; the rest shows under the pointer
_MAX_COLUMNS = 4


def draw(chart: Chart, table: pd.DataFrame) -> "go.Figure":
    """Draw a chart; its text alternative is in `figure.layout.meta["alt"]`.

    Args:
        chart: What to draw.
        table: The table that the chart names, all rows of it.

    Raises:
        InputError: As `Chart.rows`.
        MissingExtraError: If plotly is not installed.
    """
    require_extra("plotly", "dashboard")
    if chart.kind in ("heatmap", "attention"):
        figure = _draw_grids(chart, grids(chart, table))
    elif chart.kind == "graph":
        figure = draw_graph(chart, graph(chart, table))
    elif chart.kind == "points":
        figure = _draw_points(chart, panels(chart, table))
    else:
        figure = _draw_marks(chart, panels(chart, table))
    figure.update_layout(
        title={"text": plain(chart.title)},
        meta={"alt": chart.alt},
        template="plotly_white",
        font={"color": INK},
        margin={"t": 70, "b": 50, "l": 60, "r": 20},
    )
    return figure


def _draw_grids(chart: Chart, drawn: list[Grid]) -> "go.Figure":
    import plotly.graph_objects as go

    low, high = limits(chart, np.concatenate([grid.values.ravel() for grid in drawn]))
    stops = DIVERGING if chart.signed else SEQUENTIAL
    # Panels over the same places share their labels, which stand along the outer edge.
    shared = all(grid.x == drawn[0].x and grid.y == drawn[0].y for grid in drawn)
    figure, places = _subplots([grid.title for grid in drawn], shared)
    for grid, place in zip(drawn, places, strict=True):
        # Cells stand at 0, 1, ... and are labelled: two equal tokens stay two cells.
        heatmap = go.Heatmap(
            z=grid.values,
            customdata=_pairs(grid),
            coloraxis="coloraxis",
            hoverongaps=False,
            hovertemplate=(
                f"{plain(chart.label('x'))}: %{{customdata[0]}}<br>"
                f"{plain(chart.label('y'))}: %{{customdata[1]}}<br>"
                f"{plain(chart.label('value'))}: %{{z:.4g}}<extra></extra>"
            ),
        )
        figure.add_trace(heatmap, **place)
        figure.update_xaxes(_labelled(grid.x), **place)
        figure.update_yaxes(_labelled(grid.y), autorange="reversed", **place)
    _label_outer(figure, chart.label("x"), chart.label("y"), places, shared)
    if chart.kind == "attention":
        figure.update_xaxes(constrain="domain")
        for axis in figure.select_yaxes():
            axis.update(scaleanchor=axis.anchor, constrain="domain")
    figure.update_layout(
        coloraxis={
            "colorscale": [[i / (len(stops) - 1), color] for i, color in enumerate(stops)],
            "cmin": low,
            "cmax": high,
            "colorbar": {"title": {"text": plain(chart.label("value")), "side": "right"}},
        },
        plot_bgcolor=BLANK,
    )
    figure.update_xaxes(showgrid=False, zeroline=False)
    figure.update_yaxes(showgrid=False, zeroline=False)
    return figure


def _draw_marks(chart: Chart, drawn: list[Panel]) -> "go.Figure":
    rows = pd.concat([panel.rows for panel in drawn])
    colors = colors_of(chart, rows)
    figure, places = _subplots([panel.title for panel in drawn], shared=False)
    for panel, place in zip(drawn, places, strict=True):
        labels = places_of(chart, panel.rows)
        by_place = (
            chart.kind == "bars"
            or chart.x_text is not None
            or not pd.api.types.is_numeric_dtype(panel.rows[chart.x])
        )
        for group, color in colors.items():
            part = panel.rows if group is None else panel.rows[panel.rows[chart.color] == group]
            part = part.sort_values(chart.x) if not by_place else part
            trace = _trace(chart, part, labels, by_place, color)
            trace.update(
                name=plain(str(group)),
                legendgroup=str(group),
                showlegend=group is not None and panel is drawn[0],
            )
            figure.add_trace(trace, **place)
        figure.update_xaxes(_labelled(labels) if by_place else {}, **place)
        figure.update_yaxes(matches="y", **place)
    measure = chart.label("y" if chart.kind == "line" else "value")
    _label_outer(figure, chart.label("x"), measure, places, shared=False)
    figure.update_yaxes(zeroline=True, zerolinecolor=INK, gridcolor=GRID)
    if chart.log_x:
        figure.update_xaxes(type="log")
    if chart.log_y:
        figure.update_yaxes(type="log", zeroline=False)
    if chart.kind == "bars":
        # plotly would take a width from the distance of one group's own bars.
        abreast = len(colors) if lanes(chart, rows) > 1 else 1
        figure.update_layout(barmode="group" if abreast > 1 else "overlay")
        figure.update_traces(width=0.8 / abreast)
    if chart.is_probability:
        figure.update_yaxes(range=[0, 1])
    if chart.color is not None:
        figure.update_layout(legend={"title": {"text": plain(chart.color)}})
    return figure


def _draw_points(chart: Chart, drawn: list[Panel]) -> "go.Figure":
    import plotly.graph_objects as go

    assert chart.y is not None  # checked when the chart was made
    rows = pd.concat([panel.rows for panel in drawn])
    figure, places = _subplots([panel.title for panel in drawn], shared=False)
    for panel, place in zip(drawn, places, strict=True):
        for group, color in colors_of(chart, rows).items():
            part = panel.rows if group is None else panel.rows[panel.rows[chart.color] == group]
            x, y = part[chart.x].to_numpy(float), part[chart.y].to_numpy(float)
            if chart.vectors:  # from the origin and back: a gap would need rows of its own
                x, y = (
                    np.stack([0 * x, x, 0 * x], 1).ravel(),
                    np.stack([0 * y, y, 0 * y], 1).ravel(),
                )
            trace = go.Scatter(
                x=x,
                y=y,
                mode="lines+markers" if chart.vectors else "markers",
                line={"color": color, "width": 1},
                marker={"color": color, "size": [0, 6, 0] * len(part) if chart.vectors else 6},
                name=plain(str(group)),
                legendgroup=str(group),
                showlegend=group is not None and panel is drawn[0],
                hovertemplate=(
                    f"{plain(chart.label('x'))}: %{{x:.4g}}<br>"
                    f"{plain(chart.label('y'))}: %{{y:.4g}}<extra></extra>"
                ),
            )
            figure.add_trace(trace, **place)
        if chart.vectors:
            reach = reach_of(chart, rows)
            figure.update_xaxes(range=[-reach, reach], constrain="domain", **place)
            figure.update_yaxes(range=[-reach, reach], constrain="domain", **place)
        else:
            figure.update_xaxes(matches="x", **place)
            figure.update_yaxes(matches="y", **place)
    if chart.vectors:
        for axis in figure.select_yaxes():
            axis.update(scaleanchor=axis.anchor)
    _label_outer(figure, chart.label("x"), chart.label("y"), places, shared=False)
    figure.update_xaxes(gridcolor=GRID, zeroline=chart.vectors, zerolinecolor=INK)
    figure.update_yaxes(gridcolor=GRID, zeroline=chart.vectors or chart.signed, zerolinecolor=INK)
    figure.update_xaxes(type="log" if chart.log_x else "linear")
    figure.update_yaxes(type="log" if chart.log_y else "linear")
    if chart.is_probability:
        figure.update_yaxes(range=[0, 1])
    if chart.color is not None:
        figure.update_layout(legend={"title": {"text": plain(chart.color)}})
    return figure


def _trace(chart: Chart, rows: pd.DataFrame, labels: Axis, by_place: bool, color: str) -> Any:
    import plotly.graph_objects as go

    place = {key: i for i, key in enumerate(labels.keys)}
    at = rows[chart.x].map(place) if by_place else rows[chart.x]
    values = rows[chart.measure].to_numpy(float)
    shared: dict[str, Any] = {
        "x": at.to_numpy(),
        "y": values,
        "customdata": [plain(labels.labels[place[key]]) for key in rows[chart.x]],
        "hovertemplate": f"{plain(chart.label('x'))}: %{{customdata}}<br>%{{y:.4g}}",
    }
    if chart.error is not None:
        error = rows[chart.error].to_numpy(float)
        shared["error_y"] = {"array": error, "thickness": 1, "width": 3}
        shared["hovertemplate"] += " ± %{error_y.array:.2g}"
    if chart.kind == "line":
        mode = "lines+markers" if len(labels.keys) <= 30 else "lines"
        return go.Scatter(mode=mode, line={"color": color}, **shared)
    shade: Any = color
    if chart.signed and chart.color is None:
        shade = np.where(values < 0, NEGATIVE, POSITIVE).tolist()
    return go.Bar(marker={"color": shade}, **shared)


def _subplots(titles: list[str], shared: bool) -> tuple["go.Figure", list[dict[str, int]]]:
    """A figure with a panel for each title, and the row and column of each panel.

    Panels stand closer together if they share their labels.
    """
    from plotly.subplots import make_subplots

    columns = min(len(titles), _MAX_COLUMNS)
    rows = -(-len(titles) // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[plain(title) for title in titles],
        horizontal_spacing=(0.06 if shared else 0.3) / columns,
        vertical_spacing=(0.15 if shared else 0.25) / rows,
    )
    figure.update_layout(height=_PANEL * rows + 150)
    places = [{"row": i // columns + 1, "col": i % columns + 1} for i in range(len(titles))]
    return figure, places


def _label_outer(
    figure: "go.Figure", x_label: str, y_label: str, places: list[dict[str, int]], shared: bool
) -> None:
    """Name the axes along the left and the lower edge; there alone if labels are shared."""
    columns = max(place["col"] for place in places)
    for i, place in enumerate(places):
        if i + columns >= len(places):
            figure.update_xaxes(title_text=plain(x_label), **place)
        elif shared:
            figure.update_xaxes(showticklabels=False, **place)
        if place["col"] == 1:
            figure.update_yaxes(title_text=plain(y_label), **place)
        elif shared:
            figure.update_yaxes(showticklabels=False, **place)


def _labelled(axis: Axis) -> dict[str, Any]:
    shown = ticks(len(axis.keys), _MAX_LABELS)
    return {"tickvals": shown, "ticktext": [plain(axis.labels[i]) for i in shown]}


def _pairs(grid: Grid) -> "np.ndarray[Any, Any]":
    """The labels of each cell, `[y, x, 2]`, with the place where the label is not the key."""
    pairs = np.empty((*grid.values.shape, 2), dtype=object)
    pairs[..., 0] = np.array(_told(grid.x), dtype=object)[None, :]
    pairs[..., 1] = np.array(_told(grid.y), dtype=object)[:, None]
    return pairs


def _told(axis: Axis) -> list[str]:
    return [
        plain(label if label == str(key) else f"{label} ({key})")
        for key, label in zip(axis.keys, axis.labels, strict=True)
    ]
