"""Bars and lines."""

from typing import Any

import numpy as np
import pandas as pd

from interp.charts.interactive.layout import Sketch, labelled
from interp.charts.interactive.text import plain
from interp.charts.palette import Theme
from interp.charts.panels import Axis, Panel, colors_of, lanes, names_of, places_of
from interp.charts.spec import Chart


def draw_marks(chart: Chart, drawn: list[Panel], theme: Theme) -> Sketch:
    """Draw bars or lines, one panel each, all on one scale."""
    rows = pd.concat([panel.rows for panel in drawn])
    colors = colors_of(chart, rows, theme)
    names = names_of(colors)
    sketch = Sketch([panel.title for panel in drawn], shared=False)
    for i, panel in enumerate(drawn):
        labels = places_of(chart, panel.rows)
        by_place = (
            chart.kind == "bars"
            or chart.x_text is not None
            or not pd.api.types.is_numeric_dtype(panel.rows[chart.x])
        )
        for group, color in colors.items():
            part = panel.rows if group is None else panel.rows[panel.rows[chart.color] == group]
            part = part.sort_values(chart.x) if not by_place else part
            named = {
                "name": plain(names[group]),
                "legendgroup": names[group],
                "showlegend": group is not None and i == 0,
            }
            sketch.add(i, _trace(chart, part, labels, by_place, color, theme) | named)
        if by_place:
            sketch.x[i] |= labelled(labels)
        if i > 0:
            sketch.y[i]["matches"] = "y"
    measure = chart.label("y" if chart.kind == "line" else "value")
    sketch.label_outer(chart.label("x"), measure, shared=False)
    if chart.log_x:
        for axis in sketch.x:
            axis["type"] = "log"
    for axis in sketch.y:
        axis |= {"zeroline": True, "zerolinecolor": theme.ink, "gridcolor": theme.grid}
        if chart.log_y:
            axis |= {"type": "log", "zeroline": False}
        if chart.is_probability:
            axis["range"] = [0, 1]
        elif chart.limits is not None and not chart.vectors:
            axis["range"] = np.log10(chart.limits) if chart.log_y else chart.limits
    if chart.kind == "bars":
        # plotly would take a width from the distance of one group's own bars.
        abreast = len(colors) if lanes(chart, rows) > 1 else 1
        sketch.layout["barmode"] = "group" if abreast > 1 else "overlay"
        for trace in sketch.traces:
            trace["width"] = 0.8 / abreast
    if chart.color is not None:
        sketch.layout["legend"] = {"title": {"text": plain(chart.color)}}
    return sketch


def _trace(
    chart: Chart, rows: pd.DataFrame, labels: Axis, by_place: bool, color: str, theme: Theme
) -> dict[str, Any]:
    place = {key: i for i, key in enumerate(labels.keys)}
    at = rows[chart.x].map(place) if by_place else rows[chart.x]
    values = rows[chart.measure].to_numpy(float)
    trace: dict[str, Any] = {
        "x": at.to_numpy(),
        "y": values,
        "customdata": [plain(labels.labels[place[key]]) for key in rows[chart.x]],
        "hovertemplate": f"{plain(chart.label('x'))}: %{{customdata}}<br>%{{y:.4g}}",
    }
    if chart.error is not None:
        error = rows[chart.error].to_numpy(float)
        trace["error_y"] = {"array": error, "thickness": 1, "width": 3}
        trace["hovertemplate"] += " ± %{error_y.array:.2g}"
    if chart.kind == "line":
        mode = "lines+markers" if len(labels.keys) <= 30 else "lines"
        return {"type": "scatter", "mode": mode, "line": {"color": color}} | trace
    shade: Any = color
    if chart.signed and chart.color is None:
        shade = np.where(values < 0, theme.negative, theme.positive).tolist()
    return {"type": "bar", "marker": {"color": shade, "line": {"width": 0}}} | trace
