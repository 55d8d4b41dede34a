"""The columns of W as a polytope: lines from the centre, the recognised shape's edges, numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st

from analyses.superposition.one_toy import ABSENT, AXES
from dashboards.drawing import figures
from dashboards.drawing.theme import is_dark
from dashboards.views.superposition import polytope_still
from interp.charts import Chart, export
from interp.charts.interactive import plain
from interp.charts.palette import LIGHT, Theme, theme

if TYPE_CHECKING:
    import plotly.graph_objects as go

HEIGHT = 460
FLAT = 250  # of a toy of one dimension
Edges = list[tuple[int, int]]
_MIMES = {"png": "image/png", "svg": "image/svg+xml", "html": "text/html"}


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

    on_a_line = bool((table["y"] == 0).all())

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
                x=x if on_a_line else 1.09 * x, y=1.09 * y, mode="text",
                text=_numbers(_by_feature(table)), hoverinfo="skip",
                textposition="top center" if on_a_line else "middle center",
                textfont={"color": colors.ink, "size": 12}, showlegend=False, name="features",
            )
        )  # fmt: skip
        figure.update_yaxes(scaleanchor="x")  # angles are what is looked at
        if on_a_line:
            hidden = {"scaleanchor": None, "showticklabels": False, "showgrid": False}
            figure.update_yaxes(range=[-1, 1], title_text="", **hidden)
            figure.update_layout(height=FLAT)

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
    _files(table, edges, reach, key, alt, code)


@st.fragment
def _files(
    table: pd.DataFrame, edges: Edges, reach: float, key: str, alt: str, code: str | None
) -> None:
    box = st.expander("Data and export", key=f"{key}/data", on_change="rerun")
    if not box.open:
        return
    with box:
        with st.container(horizontal=True):
            for suffix, mime in _MIMES.items():
                st.download_button(
                    suffix.upper(), lambda suffix=suffix: file(table, edges, reach, alt, suffix),
                    f"directions.{suffix}", mime, key=f"{key}/{suffix}", on_click="ignore",
                )  # fmt: skip
        figures.table(table, f"{key}/table", "directions", code)
        if code is not None:
            st.code(code, language="python")


def file(table: pd.DataFrame, edges: Edges, reach: float, alt: str, suffix: str) -> bytes:
    """The still of `solid` as png, svg, or html with its numbers."""
    # Files take their title and their alternative from a chart.
    named = Chart(
        kind="points", table="directions", title="Columns of W", alt=alt, x="x", y="y",
    )  # fmt: skip
    hues = _hues(table, LIGHT)
    drawn = polytope_still.draw(table, edges, reach, hues, named.title)
    if suffix == "png":
        return export.png(drawn, named)
    svg = export.svg(drawn, named)
    return (svg if suffix == "svg" else export.page(named, table, svg)).encode()


def _hues(table: pd.DataFrame, colors: Theme) -> dict[str, str]:
    """A colour for each part."""
    parts = [part for part in table["part"].drop_duplicates().tolist() if part != ABSENT]
    hues = dict(zip(parts, colors.group_colors(max(len(parts), 1)), strict=False))
    return {**hues, ABSENT: colors.blank}


def solid_figure(table: pd.DataFrame, edges: Edges, reach: float, colors: Theme) -> go.Figure:
    """The figure of `solid`."""
    import plotly.graph_objects as go

    x, y, z = (_by_feature(table)[name].to_numpy(float) for name in AXES)
    hues = _hues(table, colors)
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
