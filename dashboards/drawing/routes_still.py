"""The picture of routes as a still, for files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dashboards.drawing.routes_figure import KIND_COLORS, KINDS, MOST_EDGES, curves, token_labels
from interp.charts.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TOKEN, _LEVEL, _MARGIN = 0.24, 0.5, 1.3  # inches
_NARROWEST, _WIDEST, _TALLEST = 5.0, 16.0, 14.0
_THINNEST, _THICKEST, _PALEST = 0.6, 5.0, 0.35


def draw(
    nodes: pd.DataFrame, edges: pd.DataFrame, width: str, predicted: dict[int, str], title: str
) -> Figure:
    """Draw routes; the arguments are those of `routes_figure.draw`, and a title above."""
    from interp.charts.mpl import style

    with style():
        return _draw(nodes, edges, width, predicted, title)


def _draw(
    nodes: pd.DataFrame, edges: pd.DataFrame, width: str, predicted: dict[int, str], title: str
) -> Figure:
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    tokens = nodes[nodes["level"] == 0]
    streams = nodes.drop_duplicates("level").sort_values("level")
    n, top = len(tokens), int(streams["level"].max())
    size = (
        float(np.clip(n * _TOKEN + _MARGIN, _NARROWEST, _WIDEST)),
        min(top * _LEVEL + _MARGIN, _TALLEST),
    )
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    some = edges.nlargest(MOST_EDGES, "flow")[::-1]  # the largest on top
    lines = curves(some)
    for kind in KINDS:
        mine = (some["kind"] == kind).to_numpy()
        if not mine.any():
            continue
        share = some[width].to_numpy(float)[mine].clip(0, 1)
        color = LIGHT.categorical[KIND_COLORS[kind]]
        axes.add_collection(
            LineCollection(
                list(lines[mine]),
                colors=color,
                linewidths=_THINNEST + (_THICKEST - _THINNEST) * share,
                alpha=_PALEST + (1 - _PALEST) * share,
                zorder=1,
            )
        )
    on = nodes["on_route"].to_numpy(bool)
    axes.scatter(nodes["position"][~on], nodes["level"][~on], s=4, color=LIGHT.blank, zorder=2)
    sizes = 16 + 40 * nodes["flow"][on].clip(0, 1)
    axes.scatter(nodes["position"][on], nodes["level"][on], s=sizes, color=LIGHT.ink, zorder=3)
    for position, text in predicted.items():
        axes.annotate(
            text, (position, top), (0, 8), textcoords="offset points", fontsize=8,
            ha="right" if position > n / 2 else "left",
        )  # fmt: skip
    axes.set_xticks(tokens["position"], token_labels(tokens["token"]), rotation=90, fontsize=8)
    axes.set_yticks(streams["level"], streams["stream"], fontsize=8)
    axes.set_xlim(-0.7, n - 0.3)
    axes.set_ylim(-0.4, top + 0.6)
    axes.set_xlabel("token")
    axes.set_ylabel("residual stream")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    shown = [kind for kind in KINDS if (some["kind"] == kind).any()]
    figure.legend(
        [Line2D([], [], color=LIGHT.categorical[KIND_COLORS[kind]], lw=3) for kind in shown],
        shown, loc="outside upper left", ncols=len(KINDS), frameon=False, fontsize=8,
        title=title, title_fontsize=9, alignment="left",
    )  # fmt: skip
    return figure
