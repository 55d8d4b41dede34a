"""Where the nodes of a graph stand and how its edges run, for any drawing library.

Levels go up the page; the nodes of one stand side by side in the order of their names (numbers
within names by size), in several rows where one would be too wide. An edge leaves at the top of its
source and ends at the bottom of its target. It bends aside where it would run through other nodes.
"""

import itertools
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from interp.charts.palette import LIGHT, Theme
from interp.charts.panels import LABEL_LIMIT, names_of, ordered
from interp.charts.spec import Chart
from interp.charts.tokens import visible

# Lengths are in inches, for text of 8 points.
LETTER = 0.075
NODE_HEIGHT = 0.24
_WIDEST = 11.0
_NARROWEST = 3.5
_BETWEEN_NODES = 0.22
_BETWEEN_ROWS = 0.45  # of one level
_BETWEEN_LEVELS = 0.95
_PORTS = 0.7  # the share of a node's width over which its edges spread
# How far a curve may be pushed aside where it leaves and where it arrives, in widths of a node and
# its gap: the least first.
_ASIDE = (0.0, 0.5, -0.5, 1.0, -1.0, 1.6, -1.6, 2.4, -2.4)
_BENDS = sorted(itertools.product(_ASIDE, repeat=2), key=lambda pair: abs(pair[0]) + abs(pair[1]))
_SAMPLES = 33  # points of an edge's curve
_THINNEST, _THICKEST = 0.6, 4.5  # points
_PALEST = 0.35  # the opacity of the thinnest edge


@dataclass(frozen=True)
class Node:
    """A node: its name, the label drawn, and its centre."""

    name: Hashable
    label: str
    x: float
    y: float


@dataclass(frozen=True)
class Edge:
    """An edge.

    Attributes:
        source, target: Names of nodes.
        value: NaN where the table has no finite number.
        share: |value| over the largest of the graph, 0..1; 0 for NaN.
        color: Of its group; without groups, of its sign where the chart is signed.
        dashed: Below zero, where the colour does not say so; or without a number.
        curve: `[point, 2]`: from the top of the source to the bottom of the target.
    """

    source: Hashable
    target: Hashable
    value: float
    share: float
    color: str
    dashed: bool
    curve: npt.NDArray[np.float64]

    @property
    def width(self) -> float:
        """Of its line, in points."""
        return line_width(self.share)

    @property
    def opacity(self) -> float:
        """Of its line."""
        return _PALEST + (1 - _PALEST) * self.share


@dataclass(frozen=True)
class Graph:
    """A graph laid out on a page of `width` × `height`, y upwards.

    Attributes:
        nodes: In the order of their levels and names.
        edges: In the order in which they are drawn: the largest last, on top.
        groups: The colour of each group; empty without groups.
        width, height: Of the page.
        node_width: Of each node's box.
        reach: The largest |value|.
    """

    nodes: list[Node]
    edges: list[Edge]
    groups: dict[Hashable, str]
    width: float
    height: float
    node_width: float
    reach: float


def graph(chart: Chart, table: pd.DataFrame, theme: Theme = LIGHT) -> Graph:
    """Lay out a graph chart, in the colours of a theme. Raises as `Chart.rows` does."""
    assert chart.y is not None and chart.value is not None  # checked when the chart was made
    assert chart.x_level is not None and chart.y_level is not None
    rows = chart.rows(table)
    levels = dict(zip(rows[chart.x], rows[chart.x_level], strict=True))
    levels |= dict(zip(rows[chart.y], rows[chart.y_level], strict=True))
    labels = names_of(levels, LABEL_LIMIT, visible)
    node_width = LETTER * max(map(len, labels.values())) + 0.16
    nodes, width, height = _placed(levels, labels, node_width)
    values = rows[chart.value].to_numpy(dtype=float, na_value=np.nan)
    values = np.where(np.isfinite(values), values, np.nan)
    sizes = np.nan_to_num(np.abs(values))
    reach = float(sizes.max())
    kinds = [] if chart.color is None else ordered(rows[chart.color])
    groups = dict(zip(kinds, theme.group_colors(len(kinds)), strict=True))
    colors = _colors(chart, rows, values, groups, theme)
    by_sign = chart.signed and chart.color is None
    ends = list(zip(rows[chart.x], rows[chart.y], strict=True))
    curves = _curves(ends, nodes, node_width)
    # Curves may have left the page at the sides.
    at_x = np.concatenate(curves)[:, 0]
    left, right = min(at_x.min() - 0.1, 0.0), max(at_x.max() + 0.1, width)
    curves = [curve - [left, 0.0] for curve in curves]
    placed = [replace(node, x=node.x - left) for node in nodes.values()]
    order = np.argsort(sizes, kind="stable")
    edges = [
        Edge(
            source=ends[i][0],
            target=ends[i][1],
            value=float(values[i]),
            share=float(sizes[i]) / (reach or 1.0),
            color=colors[i],
            dashed=bool(np.isnan(values[i]) or (values[i] < 0 and not by_sign)),
            curve=curves[i],
        )
        for i in order
    ]
    return Graph(placed, edges, groups, float(right - left), height, node_width, reach)


def line_width(share: float) -> float:
    """The width in points of an edge whose |value| is this share of the largest."""
    return _THINNEST + (_THICKEST - _THINNEST) * share


def _colors(
    chart: Chart,
    rows: pd.DataFrame,
    values: npt.NDArray[np.float64],
    groups: dict[Hashable, str],
    theme: Theme,
) -> list[str]:
    if chart.color is not None:
        return [groups[group] for group in rows[chart.color]]
    if not chart.signed:
        return [theme.categorical[0]] * len(rows)
    by_sign = np.where(values < 0, theme.negative, theme.positive)
    return [theme.blank if np.isnan(v) else str(c) for v, c in zip(values, by_sign, strict=True)]


def _placed(
    levels: dict[Hashable, float], labels: dict[Hashable, str], node_width: float
) -> tuple[dict[Hashable, Node], float, float]:
    """The nodes by name, and the width and height that they need."""
    room = node_width + _BETWEEN_NODES
    most = max(int(_WIDEST / room), 1)
    lines: list[tuple[list[Hashable], float]] = []  # a row's nodes, and what lies below it
    for level in sorted(set(levels.values())):
        names = sorted((n for n, at in levels.items() if at == level), key=_natural)
        n_lines = -(-len(names) // most)
        each = -(-len(names) // n_lines)
        for i in range(n_lines):
            below = _BETWEEN_ROWS if i else _BETWEEN_LEVELS
            lines.append((names[i * each : (i + 1) * each], below))
    width = max(max(len(names) for names, _ in lines) * room, _NARROWEST)
    nodes: dict[Hashable, Node] = {}
    y = NODE_HEIGHT - lines[0][1]
    for names, below in lines:
        y += below
        for i, name in enumerate(names):
            nodes[name] = Node(name, labels[name], (i + 0.5) * width / len(names), y)
    return nodes, width, y + NODE_HEIGHT


def _natural(name: Hashable) -> tuple[tuple[int, int, str], ...]:
    """A sorting key by which L2H3 comes before L2H10."""
    parts = re.findall(r"\d+|\D+", str(name))
    return tuple((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts)


def _curves(
    ends: Sequence[tuple[Hashable, Hashable]], nodes: dict[Hashable, Node], node_width: float
) -> list[npt.NDArray[np.float64]]:
    leave = _ports(ends, nodes, node_width, own=0)
    arrive = _ports(ends, nodes, node_width, own=1)
    centres = np.array([(node.x, node.y) for node in nodes.values()])
    index = {name: i for i, name in enumerate(nodes)}
    room = node_width + _BETWEEN_NODES
    found = []
    for i, (source, target) in enumerate(ends):
        start = np.array([leave[i], nodes[source].y + NODE_HEIGHT / 2])
        end = np.array([arrive[i], nodes[target].y - NODE_HEIGHT / 2])
        others = np.delete(centres, [index[source], index[target]], axis=0)
        best, fewest = _curve(start, end, (0.0, 0.0)), len(nodes) + 1
        for leaving, arriving in _BENDS:
            curve = _curve(start, end, (leaving * room, arriving * room))
            crossed = _crossed(curve, others, node_width)
            if crossed < fewest:
                best, fewest = curve, crossed
            if not fewest:
                break
        found.append(best)
    return found


def _ports(
    ends: Sequence[tuple[Hashable, Hashable]],
    nodes: dict[Hashable, Node],
    node_width: float,
    own: int,
) -> dict[int, float]:
    """Where along its node each edge begins (`own` 0) or ends (1): in the order of the far ends."""
    edges: dict[Hashable, list[int]] = {}
    for i, pair in enumerate(ends):
        edges.setdefault(pair[own], []).append(i)
    at = {}
    for name, mine in edges.items():
        mine.sort(key=lambda i: (nodes[ends[i][1 - own]].x, i))
        for j, i in enumerate(mine):
            share = (j + 0.5) / len(mine) - 0.5
            at[i] = nodes[name].x + share * _PORTS * node_width
    return at


def _curve(
    start: npt.NDArray[np.float64], end: npt.NDArray[np.float64], aside: tuple[float, float]
) -> npt.NDArray[np.float64]:
    """A cubic Bézier curve; without being pushed aside it leaves and arrives upwards."""
    rise = 0.4 * (end[1] - start[1])
    leave, arrive = np.array([aside[0], rise]), np.array([aside[1], -rise])
    points = np.array([start, start + leave, end + arrive, end])
    t = np.linspace(0, 1, _SAMPLES)[:, None]
    weights = np.hstack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])
    return weights @ points


def _crossed(
    curve: npt.NDArray[np.float64], centres: npt.NDArray[np.float64], node_width: float
) -> int:
    """How many nodes the curve runs through."""
    apart = np.abs(curve[:, None] - centres[None])
    inside = (apart[..., 0] < node_width / 2 + 0.03) & (apart[..., 1] < NODE_HEIGHT / 2 + 0.03)
    return int(inside.any(0).sum())
