"""Graphs: nodes and the edges between them."""

from typing import Any

import numpy as np

from interp.charts.graphs import NODE_HEIGHT, Edge, Graph, line_width
from interp.charts.interactive.layout import Sketch
from interp.charts.interactive.text import plain
from interp.charts.palette import Theme
from interp.charts.panels import names_of
from interp.charts.spec import Chart

_INCH = 80  # pixels
_MARGINS = 120  # pixels above and below the graph
_WIDTHS = 6  # edges share a line's trace with those of about the same width
_FULL = 10  # points along an edge at which the pointer finds it


def draw_graph(chart: Chart, drawn: Graph, theme: Theme) -> Sketch:
    """Draw a graph; the pointer shows each edge's value."""
    sketch = Sketch([""], shared=False)
    sketch.traces += map(_lines, _alike(drawn.edges))
    sketch.traces += [_heads(drawn.edges), _hover(chart, drawn)]
    sketch.traces += [
        {
            "type": "scatter",
            "x": [None],
            "y": [None],
            "mode": "lines",
            "name": plain(label),
            "line": line,
            "legendgroup": heading,
            "legendgrouptitle": {"text": plain(heading)},
        }
        for heading, label, line in _legend(chart, drawn, theme)
    ]
    half_width, half_height = drawn.node_width / 2, NODE_HEIGHT / 2
    sketch.layout |= {
        "shapes": [
            {
                "type": "rect",
                "x0": node.x - half_width,
                "x1": node.x + half_width,
                "y0": node.y - half_height,
                "y1": node.y + half_height,
                "fillcolor": theme.paper,
                "line": {"color": theme.ink, "width": 1},
                "layer": "above",
            }
            for node in drawn.nodes
        ],
        "annotations": [
            {
                "x": node.x,
                "y": node.y,
                "text": plain(node.label),
                "showarrow": False,
                "font": {"size": 11},
            }
            for node in drawn.nodes
        ],
        "height": round(drawn.height * _INCH) + _MARGINS,
        "plot_bgcolor": theme.paper,
        "hovermode": "closest",
    }
    hidden = {"visible": False, "fixedrange": False}
    sketch.x[0] |= {"range": [0, drawn.width], **hidden}
    sketch.y[0] |= {"range": [0, drawn.height], **hidden}
    return sketch


def _alike(edges: list[Edge]) -> list[list[Edge]]:
    """Edges that one trace can draw, the widest last."""
    by_style: dict[tuple[Any, ...], list[Edge]] = {}
    for edge in edges:
        style = (round(edge.share * (_WIDTHS - 1)), edge.color, edge.dashed)
        by_style.setdefault(style, []).append(edge)
    return [by_style[style] for style in sorted(by_style)]


def _lines(edges: list[Edge]) -> dict[str, Any]:
    gap = np.full((1, 2), np.nan)
    points = np.concatenate([part for edge in edges for part in (edge.curve, gap)])
    last = edges[-1]
    return {
        "type": "scatter",
        "x": points[:, 0],
        "y": points[:, 1],
        "mode": "lines",
        "line": {
            "color": last.color,
            "width": last.width,
            "dash": "dash" if last.dashed else "solid",
        },
        "opacity": last.opacity,
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _heads(edges: list[Edge]) -> dict[str, Any]:
    """Arrow heads: triangles that point along the end of each edge."""
    ends = np.array([edge.curve[-1] for edge in edges])
    along = ends - np.array([edge.curve[-4] for edge in edges])
    return {
        "type": "scatter",
        "x": ends[:, 0],
        "y": ends[:, 1],
        "mode": "markers",
        "marker": {
            "symbol": "arrow",
            "size": [6 + 1.5 * edge.width for edge in edges],
            "angle": np.degrees(np.arctan2(along[:, 0], along[:, 1])),  # clockwise from upwards
            "color": [edge.color for edge in edges],
            "opacity": [edge.opacity for edge in edges],
        },
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _hover(chart: Chart, drawn: Graph) -> dict[str, Any]:
    """Points that are not seen, along each edge, which say what it is."""
    labels = {node.name: node.label for node in drawn.nodes}
    names = names_of(drawn.groups)
    groups = {color: names[group] for group, color in drawn.groups.items()}
    at, texts = [], []
    for edge in drawn.edges:
        points = edge.curve[:: max(len(edge.curve) // _FULL, 1)]
        told = f"{labels[edge.source]} → {labels[edge.target]}"
        told += f" ({groups[edge.color]})" if drawn.groups else ""
        number = "no number" if np.isnan(edge.value) else format(edge.value, ".4g")
        at.append(points)
        texts += [plain(f"{told}: {number}")] * len(points)
    points = np.concatenate(at)
    return {
        "type": "scatter",
        "x": points[:, 0],
        "y": points[:, 1],
        "mode": "markers",
        "marker": {"size": 8, "opacity": 0},
        "text": texts,
        "hovertemplate": "%{text}<extra></extra>",
        "name": plain(chart.label("value")),
        "showlegend": False,
    }


def _legend(chart: Chart, drawn: Graph, theme: Theme) -> list[tuple[str, str, dict[str, Any]]]:
    """What colours, dashes and widths mean: a heading, a label and its line."""
    names = names_of(drawn.groups)
    entries: list[tuple[str, str, dict[str, Any]]] = [
        (str(chart.color), names[group], {"color": color, "width": 2})
        for group, color in drawn.groups.items()
    ]
    value = chart.label("value")
    if any(edge.dashed and edge.value < 0 for edge in drawn.edges):
        entries.append((value, "below zero", {"color": theme.ink, "width": 1.5, "dash": "dash"}))
    by_sign = chart.signed and chart.color is None
    for share in (1.0, 0.5):
        for sign in (1, -1) if by_sign else (1,):
            color = (theme.positive if sign > 0 else theme.negative) if by_sign else theme.ink
            number = format(sign * share * drawn.reach, ".2g")
            entries.append((value, number, {"color": color, "width": line_width(share)}))
    return entries
