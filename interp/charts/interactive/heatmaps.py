"""Heatmaps and attention maps."""

from typing import Any

import numpy as np

from interp.charts.interactive.layout import Sketch, labelled
from interp.charts.interactive.text import plain
from interp.charts.palette import Theme, scale
from interp.charts.panels import Axis, Grid, limits
from interp.charts.spec import Chart

_ROOM = 1000, 500  # pixels that the panels of a row have on a laptop, across and down
_LETTER = 0.6  # the width of a letter in heights
_LEAST_TEXT, _MOST_TEXT = 7, 12  # pixels of texts in cells; where smaller, the pointer tells them
_LEAST = 10  # pixels from a cell's centre at which the pointer still finds it


def draw_grids(chart: Chart, drawn: list[Grid], theme: Theme, clickable: bool) -> Sketch:
    """Draw one heatmap for each grid, all on one colour scale."""
    low, high = limits(chart, np.concatenate([grid.values.ravel() for grid in drawn]))
    # Panels over the same places share their labels, which stand along the outer edge.
    shared = all(grid.x == drawn[0].x and grid.y == drawn[0].y for grid in drawn)
    sketch = Sketch([grid.title for grid in drawn], shared)
    for i, grid in enumerate(drawn):
        sketch.add(i, _cells(chart, grid, sketch.columns, clickable))
        if clickable:
            sketch.add(i, _points(chart, grid))
        # Cells stand at 0, 1, ... and are labelled: two equal tokens stay two cells.
        sketch.x[i] |= labelled(grid.x) | _told(grid.x) | {"range": [-0.5, len(grid.x.keys) - 0.5]}
        sketch.y[i] |= labelled(grid.y) | _told(grid.y) | {"range": [len(grid.y.keys) - 0.5, -0.5]}
    sketch.label_outer(chart.label("x"), chart.label("y"), shared)
    for axis in (*sketch.x, *sketch.y):
        axis |= {"showgrid": False, "zeroline": False}
    if chart.kind == "attention":
        for axis in (*sketch.x, *sketch.y):
            axis["constrain"] = "domain"
        for axis in sketch.y:
            axis["constraintoward"] = "top"
        sketch.equal_units()
    sketch.layout |= {
        "coloraxis": {
            "colorscale": scale(theme.diverging if chart.signed else theme.sequential),
            "cmin": low,
            "cmax": high,
            "colorbar": {"title": {"text": plain(chart.label("value")), "side": "right"}},
        },
        "plot_bgcolor": theme.blank,
    }
    if clickable:
        # The pointer finds the nearest centre: that of its own cell, out to the cell's corners.
        wide = max(_ROOM[0] / sketch.columns / grid.values.shape[1] for grid in drawn)
        tall = max(_ROOM[1] / grid.values.shape[0] for grid in drawn)
        reach = max(round(float(np.hypot(wide, tall)) / 2), _LEAST)
        sketch.layout |= {
            "hovermode": "closest",
            "hoverdistance": reach,
            "clickmode": "event+select",
        }
    return sketch


def _cells(chart: Chart, grid: Grid, columns: int, clickable: bool) -> dict[str, Any]:
    """The cells of a panel, one of so many in a row."""
    cells: dict[str, Any] = {
        "type": "heatmap",
        "z": grid.values,
        "coloraxis": "coloraxis",
        "hoverongaps": False,
    }
    if clickable:  # the points above take the pointer
        cells["hoverinfo"] = "skip"
    else:
        cells["hovertemplate"] = _template(chart, "%{z:.4g}")
    if grid.texts is not None:
        cells["text"] = [[plain(text) for text in line] for line in grid.texts.tolist()]
        size = _text_size(grid.texts, columns)
        if size >= _LEAST_TEXT:  # plotly takes black or white for each cell by its colour
            cells |= {"texttemplate": "%{text}", "textfont": {"size": size}}
    return cells


def _template(chart: Chart, value: str) -> str:
    """What the pointer shows of a cell: what the axes have for its place, and `value`."""
    told = [
        (chart.label("x"), "%{x}"),
        (chart.label("y"), "%{y}"),
        (chart.label("value"), value),
    ]
    if chart.text is not None:
        told.append((chart.text, "%{text}"))
    lines = [f"{plain(label)}: {number}" for label, number in told]
    return "<br>".join(lines) + "<extra></extra>"


def _text_size(texts: "np.ndarray[Any, Any]", columns: int) -> int:
    """The pixels that texts in cells may be high, so that the longest fits."""
    longest = max(len(text) for text in texts.ravel())
    cell = _ROOM[0] / columns / texts.shape[1]
    return min(int(0.85 * cell / (_LETTER * max(longest, 1))), _MOST_TEXT)


def _points(chart: Chart, grid: Grid) -> dict[str, Any]:
    """A point over each cell that has a number."""
    rows, places = np.nonzero(np.isfinite(grid.values))
    facet = [] if grid.key is None else [grid.key]
    points: dict[str, Any] = {
        "type": "scatter",
        "x": places,
        "y": rows,
        "customdata": [
            [grid.x.keys[j], grid.y.keys[i], *facet]
            for i, j in zip(rows.tolist(), places.tolist(), strict=True)
        ],
        "mode": "markers",
        # The colour is not seen; it carries the number to the pointer, in few bytes.
        "marker": {
            "color": grid.values[rows, places],
            "size": 6,
            "opacity": 0,
            "showscale": False,
        },
        "selected": {"marker": {"opacity": 0}},
        "unselected": {"marker": {"opacity": 0}},
        "hovertemplate": _template(chart, "%{marker.color:.4g}"),
        "showlegend": False,
    }
    if grid.texts is not None:
        points["text"] = [plain(text) for text in grid.texts[rows, places]]
    return points


def _told(axis: Axis) -> dict[str, Any]:
    """What the pointer shows for a place that has no tick: its label, and its key where another.

    The axis holds it once; written into every cell it would be most of what a page is sent.
    """
    told = [
        plain(label if label == str(key) else f"{label} ({key})")
        for key, label in zip(axis.keys, axis.labels, strict=True)
    ]
    return {"labelalias": dict(zip(map(str, range(len(told))), told, strict=True)),
            "hoverformat": "d"}  # fmt: skip
