"""Points, and vectors from the origin."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interp.charts.interactive.layout import label_outer, subplots
from interp.charts.interactive.text import plain
from interp.charts.palette import Theme
from interp.charts.panels import Panel, colors_of, names_of, reach_of
from interp.charts.spec import Chart

if TYPE_CHECKING:
    import plotly.graph_objects as go


def draw_points(chart: Chart, drawn: list[Panel], theme: Theme) -> "go.Figure":
    """Draw points, one panel each, all on one scale."""
    import plotly.graph_objects as go

    assert chart.y is not None  # checked when the chart was made
    rows = pd.concat([panel.rows for panel in drawn])
    colors = colors_of(chart, rows, theme)
    names = names_of(colors)
    figure, places = subplots([panel.title for panel in drawn], shared=False)
    for panel, place in zip(drawn, places, strict=True):
        for group, color in colors.items():
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
                name=plain(names[group]),
                legendgroup=names[group],
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
            figure.update_yaxes(
                range=[-reach, reach], constrain="domain", constraintoward="top", **place
            )
        elif panel is not drawn[0]:
            figure.update_xaxes(matches="x", **place)
            figure.update_yaxes(matches="y", **place)
    if chart.vectors:
        for axis in figure.select_yaxes():
            axis.update(scaleanchor=axis.anchor or "x")
    label_outer(figure, chart.label("x"), chart.label("y"), places, shared=False)
    figure.update_xaxes(gridcolor=theme.grid, zeroline=chart.vectors, zerolinecolor=theme.ink)
    figure.update_yaxes(
        gridcolor=theme.grid, zeroline=chart.vectors or chart.signed, zerolinecolor=theme.ink
    )
    figure.update_xaxes(type="log" if chart.log_x else "linear")
    figure.update_yaxes(type="log" if chart.log_y else "linear")
    if chart.is_probability:
        figure.update_yaxes(range=[0, 1])
    elif chart.limits is not None and not chart.vectors:
        figure.update_yaxes(range=np.log10(chart.limits) if chart.log_y else chart.limits)
    if chart.color is not None:
        figure.update_layout(legend={"title": {"text": plain(chart.color)}})
    return figure
