"""Charts as still pictures, drawn with seaborn and matplotlib. Needs the extra `plots`."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pandas as pd

from interp.charts.graphs import graph
from interp.charts.palette import INK
from interp.charts.panels import grids, panels
from interp.charts.spec import Chart
from interp.errors import require_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Any: the type of its keys differs between versions of matplotlib.
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "text.color": INK,
    "text.parse_math": False,  # a token may hold a dollar sign
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: it can be searched, copied and read aloud
    "svg.hashsalt": "interp",  # the same figure gives the same bytes
}


@contextmanager
def style() -> Iterator[None]:
    """Draw, or save what was drawn, in the looks of interp's charts."""
    from matplotlib import rc_context

    with rc_context(STYLE), warnings.catch_warnings():
        # A token may be in any script. In an SVG it stays text, which the reader's fonts can
        # show; in a PNG a box with the code point stands for it.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        yield


def draw(chart: Chart, table: pd.DataFrame) -> "Figure":
    """Draw a chart; pyplot and its global state are not involved.

    Args:
        chart: What to draw.
        table: The table that the chart names, all rows of it.

    Raises:
        InputError: As `Chart.rows`.
        MissingExtraError: If matplotlib or seaborn is not installed.
    """
    require_extra("matplotlib", "plots")
    require_extra("seaborn", "plots")
    from interp.charts.mpl.graphs import draw_graph
    from interp.charts.mpl.heatmaps import draw_grids
    from interp.charts.mpl.marks import draw_marks
    from interp.charts.mpl.points import draw_points

    with style():
        if chart.kind in ("heatmap", "attention"):
            figure = draw_grids(chart, grids(chart, table))
        elif chart.kind == "graph":
            figure = draw_graph(chart, graph(chart, table))
        elif chart.kind == "points":
            figure = draw_points(chart, panels(chart, table))
        else:
            figure = draw_marks(chart, panels(chart, table))
        # Laid out once and for all: else each saving would move things a little.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        return figure
