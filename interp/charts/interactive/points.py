"""Points, and vectors from the origin."""

from typing import Any

import numpy as np
import pandas as pd

from interp.charts.interactive.layout import Sketch
from interp.charts.interactive.text import plain
from interp.charts.palette import Theme
from interp.charts.panels import Panel, colors_of, names_of, reach_of
from interp.charts.spec import Chart


def draw_points(chart: Chart, drawn: list[Panel], theme: Theme) -> Sketch:
    """Draw points, one panel each, all on one scale."""
    assert chart.y is not None  # checked when the chart was made
    rows = pd.concat([panel.rows for panel in drawn])
    colors = colors_of(chart, rows, theme)
    names = names_of(colors)
    sketch = Sketch([panel.title for panel in drawn], shared=False)
    for i, panel in enumerate(drawn):
        for group, color in colors.items():
            part = panel.rows if group is None else panel.rows[panel.rows[chart.color] == group]
            named = {
                "name": plain(names[group]),
                "legendgroup": names[group],
                "showlegend": group is not None and i == 0,
            }
            sketch.add(i, _trace(chart, part, color) | named)
        if i > 0 and not chart.vectors:
            sketch.x[i]["matches"] = "x"
            sketch.y[i]["matches"] = "y"
    if chart.vectors:
        reach = reach_of(chart, rows)
        for axis in (*sketch.x[: len(drawn)], *sketch.y[: len(drawn)]):
            axis |= {"range": [-reach, reach], "constrain": "domain"}
        for axis in sketch.y[: len(drawn)]:
            axis["constraintoward"] = "top"
        sketch.equal_units()
    sketch.label_outer(chart.label("x"), chart.label("y"), shared=False)
    for axis in (*sketch.x, *sketch.y):
        axis |= {"gridcolor": theme.grid, "zerolinecolor": theme.ink}
    for axis in sketch.x:
        axis |= {"zeroline": chart.vectors, "type": "log" if chart.log_x else "linear"}
    for axis in sketch.y:
        axis |= {
            "zeroline": chart.vectors or chart.signed,
            "type": "log" if chart.log_y else "linear",
        }
        if chart.is_probability:
            axis["range"] = [0, 1]
        elif chart.limits is not None and not chart.vectors:
            axis["range"] = np.log10(chart.limits) if chart.log_y else chart.limits
    if chart.color is not None:
        sketch.layout["legend"] = {"title": {"text": plain(chart.color)}}
    return sketch


def _trace(chart: Chart, rows: pd.DataFrame, color: str) -> dict[str, Any]:
    x, y = rows[chart.x].to_numpy(float), rows[chart.y].to_numpy(float)
    if chart.vectors:  # from the origin and back: a gap would need rows of its own
        x, y = np.stack([0 * x, x, 0 * x], 1).ravel(), np.stack([0 * y, y, 0 * y], 1).ravel()
    return {
        "type": "scatter",
        "x": x,
        "y": y,
        "mode": "lines+markers" if chart.vectors else "markers",
        "line": {"color": color, "width": 1},
        "marker": {"color": color, "size": [0, 6, 0] * len(rows) if chart.vectors else 6},
        "hovertemplate": (
            f"{plain(chart.label('x'))}: %{{x:.4g}}<br>"
            f"{plain(chart.label('y'))}: %{{y:.4g}}<extra></extra>"
        ),
    }
