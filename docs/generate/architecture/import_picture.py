"""The import graph as a picture: floors are bands, an arrow leads from who imports to what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import networkx as nx

from docs.generate.architecture.imports import FLOORS, Group
from docs.generate.architecture.layout import lay_out
from docs.generate.architecture.picture import FLOOR_COLORS, Picture

_LETTER = 6.7  # width of one, 11 px, in a typewriter face
_LINE, _PAD, _GAP = 15.0, 7.0, 12.0
_WIDEST = 5  # folders beside each other in a box
_BETWEEN, _BAND = 34.0, 30.0  # from row to row; what a band adds above its rows
_MARGIN = 16.0


def draw_imports(graph: nx.DiGraph) -> str:
    """The picture of `import_graph()`, as SVG."""
    row = _rows(graph)
    words = {group: _words(group) for group in graph}
    width = {
        group: 2 * _PAD + _LETTER * max(len(line) for line in lines)
        for group, lines in words.items()
    }
    height = {group: 2 * _PAD - 3 + _LINE * len(lines) for group, lines in words.items()}
    layout = lay_out(graph, row, width, _GAP)
    top, bands, bottom = _heights(layout.rows, height)
    picture = Picture(
        layout.width + 2 * _MARGIN,
        bottom + _MARGIN,
        "Which folder imports which",
        "Folders in three bands, dashboards above analyses above interp; arrows lead down only.",
    )
    for floor, (start, end) in bands.items():
        picture.box(
            _MARGIN / 2, start, layout.width + _MARGIN, end - start, FLOOR_COLORS[floor], 0.06, 0
        )
        picture.text(
            _MARGIN, start + 17, f"{floor}/", 13, "start", bold=True, color=FLOOR_COLORS[floor]
        )
    for (start_at, end_at), bends in layout.bends.items():
        points = [(layout.x[start_at] + _MARGIN, top[row[start_at]] + height[start_at])]
        for x, at in zip(bends, range(row[start_at] + 1, row[end_at]), strict=True):
            points += [(x + _MARGIN, top[at] - 6), (x + _MARGIN, top[at + 1] - _BETWEEN + 6)]
        points.append((layout.x[end_at] + _MARGIN, top[row[end_at]]))
        picture.arrow(points, FLOOR_COLORS[start_at.floor], 1)
    for group in graph:
        x, y = layout.x[group] + _MARGIN, top[row[group]]
        left, color = x - width[group] / 2, FLOOR_COLORS[group.floor]
        picture.box(left, y, width[group], height[group], color, 0.1)
        for i, line in enumerate(words[group]):
            picture.text(x, y + _PAD + 9 + _LINE * i, line, 11, code=True)
    return picture.svg()


def _rows(graph: nx.DiGraph) -> dict[Group, int]:
    """The row of each: on its floor as low as what it imports allows."""
    row: dict[Group, int] = {}
    first = 0
    for floor in FLOORS:
        own = graph.subgraph([group for group in graph if group.floor == floor])
        layers = list(nx.topological_generations(own.reverse()))
        for height, layer in enumerate(layers):
            row.update(dict.fromkeys(layer, first + len(layers) - 1 - height))
        first += len(layers)
    return row


def _words(group: Group) -> list[str]:
    names = [name if name == "*.py" else f"{name}/" for name in group.folders]
    lines = [names[i : i + _WIDEST] for i in range(0, len(names), _WIDEST)]
    return [" ".join(line) for line in lines]


def _heights(
    rows: Sequence[Sequence[Group]], height: Mapping[Group, float]
) -> tuple[list[float], dict[str, tuple[float, float]], float]:
    """The top of each row, the top and bottom of each band, and where everything ends."""
    top: list[float] = []
    bands: dict[str, tuple[float, float]] = {}
    y, floor = 0.0, ""
    for line in rows:
        own = line[0].floor
        if own != floor:
            y += _MARGIN / 2
            bands[own] = (y, y)
            y, floor = y + _BAND, own
        top.append(y)
        bottom = y + max(height[group] for group in line)
        bands[own] = (bands[own][0], bottom + 10)
        y = bottom + _BETWEEN
    return top, bands, bands[floor][1]
