"""Where panels, labels and titles go, so that all of them can be read."""

import textwrap
from typing import TYPE_CHECKING, Any

from interp.charts.panels import TITLE_LIMIT, Axis, ticks
from interp.charts.spec import Chart
from interp.charts.tokens import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Lengths are in inches, for text of 8 points.
LETTER = 0.075  # the width of a letter
MAX_WIDTH = 9.0  # of a row of panels: wider, text is too small where a page shows the figure
_LABEL_LETTER = 0.09  # the width of a letter of an axis's name, which is larger
_LINE = 0.16  # from one label to the next
_MAX_COLUMNS = 3
_LEGEND_ROWS = 20


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
    shown = shortened(chart.title, TITLE_LIMIT)
    title = textwrap.wrap(shown, max(int((beside - 0.3) / 0.095), 10))
    figure = Figure(
        figsize=(total, lines * height + margin[1] + 0.2 * len(title)), layout="constrained"
    )
    axes = figure.subplots(lines, columns, squeeze=False).ravel().tolist()
    for spare in axes[n:]:
        spare.remove()
    figure.suptitle("\n".join(title), fontsize=11, x=beside / total / 2)
    return figure, axes[:n]


def legend_room(chart: Chart, names: list[str]) -> tuple[float, int]:
    """How wide the legend of the colours' names is, with its title, and in how many columns."""
    columns = -(-len(names) // _LEGEND_ROWS)
    if chart.color is None:
        return 0.0, columns
    widest = max(map(len, (chart.color, *names)))
    return max(LETTER * widest + 0.6, 1.2) * columns, columns


def n_columns(n: int) -> int:
    """How many of `n` panels stand side by side."""
    return min(n, _MAX_COLUMNS) if n != 4 else 2


def label_places(axes: "Axes", side: str, places: Axis, length: float, offset: float = 0.0) -> None:
    """Put an axis's labels at its places, as many as its length has room for."""
    n = len(places.keys)
    longest = max(map(len, places.labels)) * LETTER + _LINE / 2
    # Long labels are turned, so that more fit, and short ones where then all fit. Else these stay
    # upright and are thinned out: as numbers are, which tell those between.
    is_long = longest > 4 * LETTER + _LINE / 2
    are_numbers = places.labels == [str(k) for k in places.keys if not isinstance(k, str)]
    worth_it = is_long or (not are_numbers and n * _LINE <= length)
    turned = side == "x" and longest > length / n and worth_it
    each = longest if side == "x" and not turned else _LINE
    shown = ticks(n, int(length / each))
    at, labels = [i + offset for i in shown], [places.labels[i] for i in shown]
    if side == "x":
        axes.set_xticks(at, labels, rotation=90 if turned else 0)
    else:
        axes.set_yticks(at, labels, rotation=0)
    axes.tick_params(axis="both", length=2)


def label_outer(x_label: str, y_label: str, axes: list["Axes"], width: float) -> None:
    """Name the axes along the left and the lower edge of the panels, `width` from one to the next.

    In lines where one would run into the next panel's.
    """
    columns = n_columns(len(axes))
    if columns > 1:
        x_label = "\n".join(textwrap.wrap(x_label, max(int(width / _LABEL_LETTER), 8)))
    y_label = _beside_axis(y_label, axes, -(-len(axes) // columns))
    for i, each in enumerate(axes):
        each.set_xlabel(x_label if i + columns >= len(axes) else "")
        each.set_ylabel(y_label if i % columns == 0 else "")


def _beside_axis(label: str, axes: list["Axes"], lines: int) -> str:
    """A vertical axis's name, in lines where it would stand out over the ends of the axis."""
    figure: Any = axes[0].figure
    tall = figure.get_size_inches()[1]
    if len(label) * _LABEL_LETTER <= tall / lines / 2:
        return label
    figure.draw_without_rendering()  # how tall the axes are, with the labels that they have
    least = tall * min(each.get_position().height for each in axes)
    return "\n".join(textwrap.wrap(label, max(int(least / _LABEL_LETTER), 12)))


def make_logarithmic(chart: Chart, axes: "Axes") -> None:
    """Make those axes logarithmic that the chart asks for, with plain numbers as labels."""
    for side, is_log in (("x", chart.log_x), ("y", chart.log_y)):
        if is_log:
            getattr(axes, f"set_{side}scale")("log")
            # The usual labels are TeX, which is off because a token may hold a dollar sign.
            getattr(axes, f"{side}axis").set_major_formatter("{x:g}")
            getattr(axes, f"{side}axis").set_minor_formatter("")


def share_scale(axes: list["Axes"], side: str, ends: tuple[float, float] | None) -> None:
    """Give all panels these limits; without any, those that hold each panel's own."""
    if ends is None:
        own = [getattr(each, f"get_{side}lim")() for each in axes]
        ends = min(low for low, _ in own), max(high for _, high in own)
    for each in axes:
        getattr(each, f"set_{side}lim")(*ends)


def measured_ends(chart: Chart) -> tuple[float, float] | None:
    """The limits that a chart gives what it measures, if any."""
    return (0.0, 1.0) if chart.is_probability else chart.limits
