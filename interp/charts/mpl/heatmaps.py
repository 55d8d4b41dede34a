"""Heatmaps and attention maps."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import seaborn
from matplotlib.colors import LinearSegmentedColormap

from interp.charts.mpl.layout import (
    LETTER,
    MAX_WIDTH,
    label_outer,
    label_places,
    n_columns,
    subplots,
)
from interp.charts.palette import BLANK, DIVERGING, GRID, SEQUENTIAL
from interp.charts.panels import Grid, limits
from interp.charts.spec import Chart

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_PANEL = 9.0  # inches
_ANNOTATED = 10  # cells carry their number if a lone panel has at most this many a side
_NOTHING = 1e-3  # of the largest: a number below this share is written as 0, as it is coloured
_VECTOR_CELLS = 2500  # larger heatmaps are stored as pixels, or the SVG would be huge


def draw_grids(chart: Chart, drawn: list[Grid]) -> "Figure":
    """Draw one heatmap for each grid, all on one colour scale."""
    most_x = max(len(grid.x.keys) for grid in drawn)
    most_y = max(len(grid.y.keys) for grid in drawn)
    annotated = len(drawn) == 1 and max(most_x, most_y) <= _ANNOTATED
    written = [_written(grid, annotated) for grid in drawn]
    width, height = _panel_size(chart, written, most_x, most_y)
    # Panels over the same places share their labels; each panel else has room for its own.
    shared = all(grid.x == drawn[0].x and grid.y == drawn[0].y for grid in drawn)
    x_room = LETTER * max(len(text) for grid in drawn for text in grid.x.labels)
    y_room = LETTER * max(len(text) for grid in drawn for text in grid.y.labels)
    pad = 0.15 if shared else y_room + 0.15
    figure, axes = subplots(
        chart,
        len(drawn),
        width + pad,
        height + (0.3 if shared else x_room + 0.3),
        margin=(1.1 + (y_room if shared else 0.0), 0.3 + (x_room if shared else 0.0)),
    )
    low, high = limits(chart, np.concatenate([grid.values.ravel() for grid in drawn]))
    colors = LinearSegmentedColormap.from_list("interp", DIVERGING if chart.signed else SEQUENTIAL)
    columns = n_columns(len(drawn))
    for i, (grid, texts, each) in enumerate(zip(drawn, written, axes, strict=True)):
        seaborn.heatmap(
            grid.values,
            ax=each,
            cmap=colors,
            vmin=low,
            vmax=high,
            cbar=False,
            square=chart.kind == "attention",
            annot=texts,
            fmt="",
            linewidths=0.5 if grid.values.size <= _VECTOR_CELLS else 0,
            linecolor=BLANK,  # so that blank cells are one area, and zeros are told apart
            rasterized=grid.values.size > _VECTOR_CELLS,
            xticklabels=False,
            yticklabels=False,
        )
        each.set_facecolor(BLANK)
        each.set_title(grid.title)
        each.spines[:].set(visible=True, color=GRID)
        if not shared or i + columns >= len(drawn):
            label_places(each, "x", grid.x, width, offset=0.5)
        if not shared or i % columns == 0:
            label_places(each, "y", grid.y, height, offset=0.5)
    bar = figure.colorbar(
        axes[0].collections[0], ax=axes, label=chart.label("value"), aspect=25, pad=0.02
    )
    bar.outline.set_color(GRID)
    label_outer(chart.label("x"), chart.label("y"), axes, width + pad)
    return figure


def _written(grid: Grid, annotated: bool) -> npt.NDArray[Any] | None:
    """What is written in the cells, `[y, x]`."""
    if grid.texts is not None:
        return grid.texts
    return _numbers(grid.values) if annotated else None


def _panel_size(
    chart: Chart, written: list[npt.NDArray[Any] | None], most_x: int, most_y: int
) -> tuple[float, float]:
    room = min(_MAX_PANEL, (MAX_WIDTH - 2) / n_columns(len(written)))
    wide = tall = 0.25 if len(written) == 1 else 0.18
    longest = [len(text) for texts in written if texts is not None for text in texts.ravel()]
    if longest:
        wide = max(0.5, LETTER * max(longest) + 0.1)
        tall = wide if chart.text is None else tall
        room = room if chart.text is None else most_x * wide  # or the texts would overlap
    if chart.kind == "attention":  # square, so that the diagonal is the diagonal
        cell = min(wide, room / max(most_x, most_y))
        return max(most_x * cell, 1.2), max(most_y * cell, 1.2)
    return min(max(most_x * wide, 1.2), room), min(max(most_y * min(tall, 0.5), 1.2), room)


def _numbers(values: npt.NDArray[np.float64]) -> npt.NDArray[np.str_]:
    """What is written in the cells: nothing in a blank one, 0 for what is left of rounding."""
    least = _NOTHING * float(np.nan_to_num(np.abs(values)).max())
    texts = [
        "" if np.isnan(value) else "0" if abs(value) < least else format(value, ".2g")
        for value in values.ravel()
    ]
    return np.array(texts).reshape(values.shape)
