"""Where panels, labels and titles go in a figure with several panels."""

from typing import TYPE_CHECKING, Any

from interp.charts.interactive.text import plain
from interp.charts.panels import Axis, ticks

if TYPE_CHECKING:
    import plotly.graph_objects as go

_PANEL = 300  # the height in pixels of one row of panels
_MAX_LABELS = 55  # on one axis; the rest shows under the pointer
MAX_COLUMNS = 4  # of panels


def subplots(titles: list[str], shared: bool) -> tuple["go.Figure", list[dict[str, int]]]:
    """A figure with a panel for each title, and the row and column of each panel.

    Panels stand closer together if they share their labels. One panel without a title is a plain
    figure and has no place.
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    if titles == [""]:
        return go.Figure(layout={"height": _PANEL + 150}), [{}]
    columns = min(len(titles), MAX_COLUMNS)
    rows = -(-len(titles) // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[plain(title) for title in titles],
        horizontal_spacing=(0.06 if shared else 0.3) / columns,
        vertical_spacing=(0.15 if shared else 0.25) / rows,
    )
    figure.update_layout(height=_PANEL * rows + 150)
    places = [{"row": i // columns + 1, "col": i % columns + 1} for i in range(len(titles))]
    return figure, places


def columns_of(places: list[dict[str, int]]) -> int:
    """How many panels stand in a row."""
    return max(place.get("col", 1) for place in places)


def label_outer(
    figure: "go.Figure", x_label: str, y_label: str, places: list[dict[str, int]], shared: bool
) -> None:
    """Name the axes along the left and the lower edge; there alone if labels are shared."""
    columns = columns_of(places)
    for i, place in enumerate(places):
        if i + columns >= len(places):
            figure.update_xaxes(title_text=plain(x_label), **place)
        elif shared:
            figure.update_xaxes(showticklabels=False, **place)
        if place.get("col", 1) == 1:
            figure.update_yaxes(title_text=plain(y_label), **place)
        elif shared:
            figure.update_yaxes(showticklabels=False, **place)


def labelled(axis: Axis) -> dict[str, Any]:
    """The ticks of an axis of places 0, 1, ..., as many as can be read."""
    shown = ticks(len(axis.keys), _MAX_LABELS)
    return {"tickvals": shown, "ticktext": [plain(axis.labels[i]) for i in shown]}
