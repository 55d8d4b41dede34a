"""The columns of W as a polytope: lines from the centre, the recognised shape's edges, numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st

from analyses.superposition.one_toy import ABSENT, AXES
from dashboards import figures
from dashboards.theme import is_dark
from interp.charts import Chart
from interp.charts.interactive import plain
from interp.charts.palette import Theme, theme

if TYPE_CHECKING:
    import plotly.graph_objects as go

HEIGHT = 460
Edges = list[tuple[int, int]]


def flat(
    drawn: Chart,
    table: pd.DataFrame,
    edges: Edges,
    key: str,
    code: str | None,
    height: int = HEIGHT,
) -> None:
    """Draw a toy of one or two dimensions.

    Args:
        drawn: The chart of its directions.
        table: What the chart is of.
        edges: Of the recognised shape.
        key: Of the figure.
        code: Python that makes the table.
        height: In pixels.
    """

    def with_edges(figure: go.Figure) -> None:
        import plotly.graph_objects as go

        colors = theme(is_dark())
        x, y = (values.to_numpy(float) for _, values in _by_feature(table)[["x", "y"]].items())
        outline = go.Scatter(
            x=_broken(x, edges), y=_broken(y, edges), mode="lines", hoverinfo="skip",
            line={"color": colors.ink, "width": 1.5, "dash": "dot"}, showlegend=False, name="edges",
        )  # fmt: skip
        figure.add_trace(outline)
        figure.add_trace(
            go.Scatter(
                x=1.09 * x, y=1.09 * y, mode="text", text=_numbers(_by_feature(table)),
                hoverinfo="skip",
                textfont={"color": colors.ink, "size": 12}, showlegend=False, name="features",
            )
        )  # fmt: skip

    figures.chart(drawn, table, key, height=height, code=code, adjust=with_edges)


def solid(
    table: pd.DataFrame, edges: Edges, reach: float, key: str, alt: str, code: str | None
) -> None:
    """Draw a toy of three dimensions or more, to be turned with the pointer.

    Args:
        table: Its directions.
        edges: Of the recognised shape.
        reach: How far the axes go, shared by toys that are seen one after another.
        key: Of the figure.
        alt: Its text alternative.
        code: Python that makes the table.
    """  # fmt: skip
    st.html('<p class="figure-title">Columns of W: turn it with the pointer</p>')
    figures.plot(solid_figure(table, edges, reach, theme(is_dark())), alt, key)
    box = st.expander("Data and export", key=f"{key}/data", on_change="rerun")
    if box.open:
        with box:
            figures.table(table, f"{key}/table", "directions", code)
            if code is not None:
                st.code(code, language="python")


def solid_figure(table: pd.DataFrame, edges: Edges, reach: float, colors: Theme) -> go.Figure:
    """The figure of `solid`."""
    import plotly.graph_objects as go

    x, y, z = (_by_feature(table)[name].to_numpy(float) for name in AXES)
    parts = [part for part in table["part"].drop_duplicates().tolist() if part != ABSENT]
    hues: dict[str, str] = dict(zip(parts, colors.group_colors(max(len(parts), 1)), strict=False))
    hues[ABSENT] = colors.blank
    figure = go.Figure()
    figure.add_trace(
        go.Scatter3d(
            x=_broken(x, edges), y=_broken(y, edges), z=_broken(z, edges), mode="lines",
            line={"color": colors.ink, "width": 2}, hoverinfo="skip", name="edges",
            showlegend=False,
        )
    )  # fmt: skip
    for part in table["part"].drop_duplicates().tolist():
        rows = table[table["part"] == part]
        at = rows["feature"].to_numpy()
        size, names = (0, [""] * len(at)) if part == ABSENT else (5, [str(i) for i in at])
        figure.add_trace(
            go.Scatter3d(
                x=_from_centre(x[at]), y=_from_centre(y[at]), z=_from_centre(z[at]),
                mode="lines+markers+text",
                line={"color": hues[part], "width": 5},
                marker={"color": hues[part], "size": _every_second(size, len(at)), "opacity": 1},
                text=[text for name in names for text in ("", name, "")],
                textfont={"color": colors.ink, "size": 12},
                hovertemplate="feature %{text}<extra></extra>",
                name=plain(part),
            )
        )  # fmt: skip
    axis: dict[str, Any] = {
        "range": [-1.1 * reach, 1.1 * reach],
        "showbackground": False,
        "gridcolor": colors.grid,
        "zerolinecolor": colors.grid,
        "color": colors.ink,
        "nticks": 5,
        "showticklabels": False,
    }
    figure.update_layout(
        scene={"aspectmode": "cube", "camera": {"eye": {"x": 0.95, "y": 0.95, "z": 0.75}}}
        | {f"{name}axis": axis | {"title": {"text": ""}} for name in AXES},
        # The same view, as the reader has turned it, of the toys that follow.
        uirevision="polytope",
        height=HEIGHT + 40,
        margin={"t": 10, "b": 0, "l": 0, "r": 0},
        paper_bgcolor=colors.paper,
        font={"color": colors.ink},
        legend={"orientation": "h", "y": 0, "yanchor": "top"},
    )
    return figure


def _by_feature(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values("feature", ignore_index=True)


def _broken(values: np.ndarray[Any, Any], edges: Edges) -> list[float | None]:
    """The ends of each edge, with a gap behind."""
    return [value for i, j in edges for value in (float(values[i]), float(values[j]), None)]


def _from_centre(values: np.ndarray[Any, Any]) -> list[float | None]:
    """A line from the centre to each value, with a gap behind."""
    return [each for value in values for each in (0.0, float(value), None)]


def _every_second(size: int, count: int) -> list[int]:
    return [0, size, 0] * count


def _numbers(table: pd.DataFrame) -> list[str]:
    there = table["part"] != ABSENT
    return [str(i) if shown else "" for i, shown in zip(table["feature"], there, strict=True)]
