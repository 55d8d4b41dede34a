"""Graphs: nodes and the edges between them."""

from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from interp.charts.graphs import NODE_HEIGHT, Edge, Graph, line_width
from interp.charts.mpl.layout import subplots
from interp.charts.palette import INK, NEGATIVE, POSITIVE
from interp.charts.panels import names_of
from interp.charts.spec import Chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEGEND = 1.5  # inches beside the graph
_DASHES: Any = (0, (3, 2))


def draw_graph(chart: Chart, drawn: Graph) -> "Figure":
    """Draw a graph: arrows as wide as their values are large, the largest on top."""
    figure, (axes,) = subplots(
        chart, 1, drawn.width, drawn.height, margin=(_LEGEND, 0.1), legend=_LEGEND
    )
    axes.set_axis_off()
    axes.set_xlim(0, drawn.width)
    axes.set_ylim(0, drawn.height)
    axes.set_aspect("equal")
    for edge in drawn.edges:
        _arrow(axes, edge)
    for node in drawn.nodes:
        box = FancyBboxPatch(
            (node.x - drawn.node_width / 2 + 0.05, node.y - NODE_HEIGHT / 2 + 0.05),
            drawn.node_width - 0.1,
            NODE_HEIGHT - 0.1,
            boxstyle="round,pad=0.05",
            facecolor="white",
            edgecolor=INK,
            linewidth=0.8,
            zorder=3,
        )
        axes.add_patch(box)
        axes.text(node.x, node.y, node.label, ha="center", va="center", zorder=4)
    _legend(chart, figure, drawn)
    return figure


def _arrow(axes: "Axes", edge: Edge) -> None:
    arrow = FancyArrowPatch(
        path=Path(edge.curve),
        arrowstyle="-|>",
        mutation_scale=6 + 1.5 * edge.width,
        linewidth=edge.width,
        linestyle=_DASHES if edge.dashed else "solid",
        color=edge.color,
        alpha=edge.opacity,
        shrinkA=0,
        shrinkB=0,
        zorder=2,
    )
    axes.add_patch(arrow)


def _legend(chart: Chart, figure: "Figure", drawn: Graph) -> None:
    """What the colours mean, and the width of the largest edge and of half of it."""
    names = names_of(drawn.groups)
    entries = [(names[group], color, 2.0, False) for group, color in drawn.groups.items()]
    title = chart.label("value") if chart.color is None else chart.color
    if chart.color is not None:
        entries.append((chart.label("value"), INK, 0.0, False))  # a heading: no line
    if any(edge.dashed and edge.value < 0 for edge in drawn.edges):
        entries.append(("below zero", INK, 1.5, True))
    by_sign = chart.signed and chart.color is None
    for share in (1.0, 0.5):
        for sign in (1, -1) if by_sign else (1,):
            color = (POSITIVE if sign > 0 else NEGATIVE) if by_sign else INK
            number = format(sign * share * drawn.reach, ".2g")
            entries.append((number, color, line_width(share), False))
    handles = [
        Line2D([], [], color=color, linewidth=w, linestyle=_DASHES if dashed else "-", label=label)
        for label, color, w, dashed in entries
    ]
    figure.legend(handles=handles, title=title, loc="outside right upper")
