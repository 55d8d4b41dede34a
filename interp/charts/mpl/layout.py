"""Where panels, labels and titles go, so that all of them can be read."""

import textwrap
from typing import TYPE_CHECKING

from interp.charts.panels import Axis, ticks
from interp.charts.spec import Chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Lengths are in inches, for text of 8 points.
LETTER = 0.075  # the width of a letter
MAX_WIDTH = 12.0
_LINE = 0.16  # from one label to the next
_MAX_COLUMNS = 4


def subplots(
    chart: Chart,
    n: int,
    width: float,
    height: float,
    margin: tuple[float, float] = (0.0, 0.0),
    legend: float = 0.0,
) -> tuple["Figure", list["Axes"]]:
    """A figure with `n` panels of the given size, a margin (x, y), and room for the title above.

    `legend` is the part of the margin that a legend takes on the right, beside the title.
    """
    from matplotlib.figure import Figure

    columns, lines = n_columns(n), -(-n // n_columns(n))
    total = columns * width + margin[0]
    beside = total - legend
    title = textwrap.wrap(chart.title, max(int((beside - 0.3) / 0.095), 10))
    figure = Figure(
        figsize=(total, lines * height + margin[1] + 0.2 * len(title)), layout="constrained"
    )
    axes = figure.subplots(lines, columns, squeeze=False).ravel().tolist()
    for spare in axes[n:]:
        spare.remove()
    figure.suptitle("\n".join(title), fontsize=11, x=beside / total / 2)
    return figure, axes[:n]


def n_columns(n: int) -> int:
    """How many of `n` panels stand side by side."""
    return min(n, _MAX_COLUMNS) if n != 4 else 2


def label_places(axes: "Axes", side: str, places: Axis, length: float, offset: float = 0.0) -> None:
    """Put an axis's labels at its places, as many as its length has room for."""
    n = len(places.keys)
    longest = max(map(len, places.labels)) * LETTER + _LINE / 2
    # Short labels stay upright and are thinned out; long ones are turned, so that more fit.
    turned = side == "x" and longest > max(length / n, 4 * LETTER + _LINE / 2)
    each = longest if side == "x" and not turned else _LINE
    shown = ticks(n, int(length / each))
    at, labels = [i + offset for i in shown], [places.labels[i] for i in shown]
    if side == "x":
        axes.set_xticks(at, labels, rotation=90 if turned else 0)
    else:
        axes.set_yticks(at, labels, rotation=0)
    axes.tick_params(axis="both", length=2)


def label_outer(x_label: str, y_label: str, axes: list["Axes"]) -> None:
    """Name the axes along the left and the lower edge of the panels."""
    columns = n_columns(len(axes))
    for i, each in enumerate(axes):
        each.set_xlabel(x_label if i + columns >= len(axes) else "")
        each.set_ylabel(y_label if i % columns == 0 else "")
