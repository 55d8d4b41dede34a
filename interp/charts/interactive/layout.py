"""Where panels, labels and titles go in a figure with several panels."""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any

from interp.charts.interactive.text import plain
from interp.charts.panels import Axis, ticks

if TYPE_CHECKING:
    import plotly.graph_objects as go

_PANEL = 300  # the height in pixels of one row of panels
_MAX_LABELS = 55  # on one axis; the rest shows under the pointer
MAX_COLUMNS = 4  # of panels


class Sketch:
    """A figure with a panel for each title, as dictionaries that plotly checks once, at the end.

    A change of a plotly figure is checked and told to the whole figure, which takes longer than to
    draw it. Panels stand closer together if they share their labels. One panel without a title is
    a plain figure.

    Attributes:
        layout: plotly's layout; `x` and `y` are parts of it.
        traces: plotly's traces.
        x: The x axis of each panel, then those of the places that the last row has left.
        y: The y axes.
        columns: How many panels stand in a row.
    """

    def __init__(self, titles: list[str], shared: bool) -> None:
        self.traces: list[dict[str, Any]] = []
        self.columns = min(len(titles), MAX_COLUMNS)
        self._titles, self._grid = titles, None if titles == [""] else _grid(len(titles), shared)
        rows = -(-len(titles) // self.columns)
        self.layout: dict[str, Any] = {"xaxis": {}, "yaxis": {}}
        if self._grid is not None:
            self.layout = copy.deepcopy(self._grid[1])
            notes = zip(titles, self.layout["annotations"], strict=True)
            self.layout["annotations"] = [
                note | {"text": plain(title)} for title, note in notes if title
            ]
        self.layout["height"] = _PANEL * rows + 150
        names = ["", *map(str, range(2, rows * self.columns + 1))]
        self.x = [self.layout[f"xaxis{name}"] for name in names]
        self.y = [self.layout[f"yaxis{name}"] for name in names]

    def add(self, panel: int, trace: dict[str, Any]) -> None:
        """Draw a trace in a panel."""
        place = {}
        if self._grid is not None:
            place = {"xaxis": self.y[panel]["anchor"], "yaxis": self.x[panel]["anchor"]}
        self.traces.append(trace | place)

    def label_outer(self, x_label: str, y_label: str, shared: bool) -> None:
        """Name the axes along the left and the lower edge; there alone if labels are shared."""
        for i in range(len(self._titles)):
            if i + self.columns >= len(self._titles):
                self.x[i]["title"] = {"text": plain(x_label)}
            elif shared:
                self.x[i]["showticklabels"] = False
            if i % self.columns == 0:
                self.y[i]["title"] = {"text": plain(y_label)}
            elif shared:
                self.y[i]["showticklabels"] = False

    def equal_units(self) -> None:
        """Let a unit be as long along the y axis of a panel as along its x axis."""
        for axis in self.y:
            axis["scaleanchor"] = axis.get("anchor", "x")

    def figure(self) -> go.Figure:
        """What is drawn so far, as plotly has it: its panels have a row and a column."""
        import plotly.graph_objects as go

        if self._grid is None:
            return go.Figure(self.traces, self.layout)
        figure = go.Figure(self._grid[0])
        figure.layout = self.layout
        figure.add_traces(self.traces)
        return figure


def labelled(axis: Axis) -> dict[str, Any]:
    """The ticks of an axis of places 0, 1, ..., as many as can be read."""
    shown = ticks(len(axis.keys), _MAX_LABELS)
    return {"tickvals": shown, "ticktext": [plain(axis.labels[i]) for i in shown]}


@functools.cache
def _grid(panels: int, shared: bool) -> tuple[go.Figure, dict[str, Any]]:
    """A figure that knows its panels, and a layout: where they go, and a title above each."""
    from plotly.subplots import make_subplots

    columns = min(panels, MAX_COLUMNS)
    rows = -(-panels // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=["title"] * panels,
        horizontal_spacing=(0.06 if shared else 0.3) / columns,
        vertical_spacing=(0.15 if shared else 0.25) / rows,
    )
    layout = figure.layout.to_plotly_json()
    del layout["template"]  # plotly's own, which is large
    figure.layout = {"template": {"layout": {"title": {"text": ""}}}}
    return figure, layout
