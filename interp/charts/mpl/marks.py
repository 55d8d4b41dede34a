"""Bars and lines."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from interp.charts.mpl.layout import (
    LETTER,
    MAX_WIDTH,
    label_outer,
    label_places,
    legend_room,
    make_logarithmic,
    measured_ends,
    n_columns,
    share_scale,
    subplots,
)
from interp.charts.palette import GRID, INK, NEGATIVE, POSITIVE
from interp.charts.panels import Panel, colors_of, lanes, names_of, places_of
from interp.charts.spec import Chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ERROR: Any = {"elinewidth": 0.8, "capsize": 2, "capthick": 0.8}


def draw_marks(chart: Chart, drawn: list[Panel]) -> "Figure":
    """Draw bars or lines, one panel each, all on one scale."""
    rows = pd.concat([panel.rows for panel in drawn])
    colors = colors_of(chart, rows)
    names = names_of(colors)
    most = max(panel.rows[chart.x].nunique() for panel in drawn)
    longest = max(len(text) for panel in drawn for text in places_of(chart, panel.rows).labels)
    sideways = chart.kind == "bars" and (4 < most <= 60) and longest > 6
    abreast = len(colors) if lanes(chart, rows) > 1 else 1
    bar = 0.22 * max(abreast * 0.6, 1)
    room = MAX_WIDTH / n_columns(len(drawn))
    if sideways:
        beside = LETTER * longest
        width, height = min(3.5, max(room - beside, 1.5)) + beside, max(most * bar, 1.0) + 0.7
    elif chart.kind == "bars":
        width = min(max(most * bar * 1.8, 3.0) + 0.6, room)
        height = 3.4 if len(drawn) == 1 else 2.6
    else:
        width, height = (5.5 if len(drawn) == 1 else 2.8), (3.4 if len(drawn) == 1 else 2.4)
    legend, legend_columns = legend_room(chart, list(names.values()))
    figure, axes = subplots(chart, len(drawn), width, height, margin=(legend, 0.0), legend=legend)
    for panel, axes_ in zip(drawn, axes, strict=True):
        axes_.set_title(panel.title)
        axes_.grid(axis="x" if sideways else "y", color=GRID, linewidth=0.6)
        if chart.kind == "bars":
            length = (height if sideways else width) - 0.7
            _bars(chart, panel, axes_, colors, abreast, sideways, length)
        else:
            _lines(chart, panel, axes_, colors, width - 0.7)
    share_scale(axes, "x" if sideways else "y", measured_ends(chart))
    measure = chart.label("y" if chart.kind == "line" else "value")
    x_label, y_label = (measure, chart.label("x")) if sideways else (chart.label("x"), measure)
    label_outer(x_label, y_label, axes, width)
    if chart.color is not None:
        # Not those of the axes: the first panel may lack a group, and names that begin with _.
        mark: Any = {"marker": "o" if most <= 30 else None, "markersize": 4, "markeredgewidth": 0}
        figure.legend(
            [
                Patch(facecolor=color)
                if chart.kind == "bars"
                else Line2D([], [], color=color, **mark)
                for color in colors.values()
            ],
            list(names.values()),
            title=chart.color,
            loc="outside right upper",
            ncols=legend_columns,
        )
    return figure


def _bars(
    chart: Chart,
    panel: Panel,
    axes: "Axes",
    colors: dict[Any, str],
    abreast: int,
    sideways: bool,
    length: float,
) -> None:
    places = places_of(chart, panel.rows)
    place = {key: i for i, key in enumerate(places.keys)}
    thick = 0.8 / abreast
    for i, (group, color) in enumerate(colors.items()):
        rows = panel.rows if chart.color is None else panel.rows[panel.rows[chart.color] == group]
        offset = (i - (abreast - 1) / 2) * thick if abreast > 1 else 0.0
        at = rows[chart.x].map(place).to_numpy(float) + offset
        values = rows[chart.measure].to_numpy(float)
        shade: Any = color
        if chart.signed and chart.color is None:
            shade = np.where(values < 0, NEGATIVE, POSITIVE).tolist()
        error = None if chart.error is None else rows[chart.error].to_numpy(float)
        style = {"color": shade, "ecolor": INK, "error_kw": _ERROR}
        if sideways:
            axes.barh(at, values, thick, xerr=error, **style)
        else:
            axes.bar(at, values, thick, yerr=error, **style)
    if sideways:
        axes.set_ylim(len(places.keys) - 0.5, -0.5)  # the first on top
        axes.axvline(0, color=INK, linewidth=0.8)
    else:
        axes.set_xlim(-0.5, len(places.keys) - 0.5)
        axes.axhline(0, color=INK, linewidth=0.8)
    label_places(axes, "y" if sideways else "x", places, length)


def _lines(chart: Chart, panel: Panel, axes: "Axes", colors: dict[Any, str], length: float) -> None:
    rows = panel.rows
    by_place = chart.x_text is not None or not pd.api.types.is_numeric_dtype(rows[chart.x])
    places = places_of(chart, rows)
    if by_place:
        rows = rows.assign(
            **{chart.x: rows[chart.x].map({key: i for i, key in enumerate(places.keys)})}
        )
    make_logarithmic(chart, axes)
    for group, color in colors.items():
        part = rows if chart.color is None else rows[rows[chart.color] == group]
        if chart.error is not None:
            _band(axes, part.sort_values(chart.x), chart, color)
        seaborn.lineplot(
            part,
            x=chart.x,
            y=chart.measure,
            ax=axes,
            color=color,
            marker="o" if len(places.keys) <= 30 else None,
            markersize=4,
            markeredgewidth=0,
            estimator=None,
            errorbar=None,
            legend=False,
        )
    if chart.signed:
        axes.axhline(0, color=INK, linewidth=0.8)
    if by_place:
        label_places(axes, "x", places, length)
    elif pd.api.types.is_integer_dtype(rows[chart.x]) and not chart.log_x:
        axes.xaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True))


def _band(axes: "Axes", rows: pd.DataFrame, chart: Chart, color: str) -> None:
    values, error = rows[chart.measure].to_numpy(float), rows[chart.error].to_numpy(float)
    axes.fill_between(
        rows[chart.x].to_numpy(float), values - error, values + error, color=color, alpha=0.2, lw=0
    )
