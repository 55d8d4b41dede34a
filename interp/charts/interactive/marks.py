"""Bars and lines."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interp.charts.interactive.layout import label_outer, labelled, subplots
from interp.charts.interactive.text import plain
from interp.charts.palette import Theme
from interp.charts.panels import Axis, Panel, colors_of, lanes, names_of, places_of
from interp.charts.spec import Chart

if TYPE_CHECKING:
    import plotly.graph_objects as go


def draw_marks(chart: Chart, drawn: list[Panel], theme: Theme) -> "go.Figure":
    """Draw bars or lines, one panel each, all on one scale."""
    rows = pd.concat([panel.rows for panel in drawn])
    colors = colors_of(chart, rows, theme)
    names = names_of(colors)
    figure, places = subplots([panel.title for panel in drawn], shared=False)
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
            trace = _trace(chart, part, labels, by_place, color, theme)
            trace.update(
                name=plain(names[group]),
                legendgroup=names[group],
                showlegend=group is not None and panel is drawn[0],
            )
            figure.add_trace(trace, **place)
        figure.update_xaxes(labelled(labels) if by_place else {}, **place)
        if panel is not drawn[0]:
            figure.update_yaxes(matches="y", **place)
    measure = chart.label("y" if chart.kind == "line" else "value")
    label_outer(figure, chart.label("x"), measure, places, shared=False)
    figure.update_yaxes(zeroline=True, zerolinecolor=theme.ink, gridcolor=theme.grid)
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
    elif chart.limits is not None and not chart.vectors:
        figure.update_yaxes(range=np.log10(chart.limits) if chart.log_y else chart.limits)
    if chart.color is not None:
        figure.update_layout(legend={"title": {"text": plain(chart.color)}})
    return figure


def _trace(
    chart: Chart, rows: pd.DataFrame, labels: Axis, by_place: bool, color: str, theme: Theme
) -> Any:
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
        shade = np.where(values < 0, theme.negative, theme.positive).tolist()
    return go.Bar(marker={"color": shade, "line": {"width": 0}}, **shared)
