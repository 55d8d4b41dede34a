"""Where the nodes of a graph without cycles are drawn: rows, their order, their places.

The steps of Sugiyama, Tagawa and Toda (1981): every edge points down to a later row, an edge that
passes rows gets a bend in each, neighbours are brought together by averaging, and places are moved
as near to their neighbours as the order allows.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Generic, TypeVar

import networkx as nx

Node = TypeVar("Node", bound=Hashable)
_SWEEPS = 24
_BEND = 10.0  # width of the room for an edge that passes a row


@dataclass(frozen=True)
class Layout(Generic[Node]):
    """Where things are.

    Attributes:
        x: The middle of each node.
        rows: The nodes of each row, from the left.
        bends: For each edge its x in every row that it passes, from its start down.
        width: From the left end of the leftmost to the right end of the rightmost.
    """

    x: Mapping[Node, float]
    rows: Sequence[Sequence[Node]]
    bends: Mapping[tuple[Node, Node], Sequence[float]]
    width: float


def lay_out(
    graph: nx.DiGraph, row: Mapping[Node, int], width: Mapping[Node, float], gap: float
) -> Layout[Node]:
    """Places for a graph's nodes.

    Args:
        graph: Without cycles.
        row: Of each node, from 0; every edge leads to a greater one.
        width: Of each node.
        gap: Between two nodes of a row.
    """
    net, chains = _with_bends(graph, row)
    rows: list[list[Any]] = [[] for _ in range(1 + max(row.values()))]
    for node, data in net.nodes(data=True):
        rows[data["row"]].append(node)
    _order(net, rows)
    room = {node: width.get(node, _BEND) for node in net}
    x = _places(net, rows, room, gap)
    left = min(x[node] - room[node] / 2 for node in net)
    right = max(x[node] + room[node] / 2 for node in net)
    x = {node: place - left for node, place in x.items()}
    return Layout(
        {node: x[node] for node in graph},
        [[node for node in line if node in graph] for line in rows],
        {edge: [x[bend] for bend in chain[1:-1]] for edge, chain in chains.items()},
        right - left,
    )


def _with_bends(
    graph: nx.DiGraph, row: Mapping[Any, int]
) -> tuple[nx.DiGraph, dict[tuple[Any, Any], list[Any]]]:
    net = nx.DiGraph()
    for node in graph:
        net.add_node(node, row=row[node])
    chains: dict[tuple[Any, Any], list[Any]] = {}
    for start, end in graph.edges:
        passed = range(row[start] + 1, row[end])
        # Edges to one node share their bends: they come together as soon as they can.
        bends: list[Any] = [("bend", end, at) for at in passed]
        for bend, at in zip(bends, passed, strict=True):
            net.add_node(bend, row=at)
        chains[start, end] = [start, *bends, end]
        nx.add_path(net, chains[start, end])
    return net, chains


def _order(net: nx.DiGraph, rows: list[list[Any]]) -> None:
    """Sort each row by the mean place of its neighbours; keep the order with fewest crossings."""
    best, fewest = [list(line) for line in rows], _crossings(net, rows)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for at in range(1, len(rows)) if down else range(len(rows) - 2, -1, -1):
            beside = rows[at - 1] if down else rows[at + 1]
            place = {node: i / max(1, len(beside) - 1) for i, node in enumerate(beside)}
            near = net.pred if down else net.succ
            own = {node: i / max(1, len(rows[at]) - 1) for i, node in enumerate(rows[at])}
            rows[at].sort(key=lambda node: _mean([place[n] for n in near[node]], own[node]))
        crossings = _crossings(net, rows)
        if crossings < fewest:
            best, fewest = [list(line) for line in rows], crossings
    rows[:] = best


def _crossings(net: nx.DiGraph, rows: Sequence[Sequence[Any]]) -> int:
    count = 0
    for upper, lower in pairwise(rows):
        place = {node: i for i, node in enumerate(lower)}
        ends = [sorted(place[end] for end in net.succ[node]) for node in upper]
        flat = [end for group in ends for end in group]
        count += sum(a > b for i, a in enumerate(flat) for b in flat[i + 1 :])
    return count


def _places(
    net: nx.DiGraph,
    rows: Sequence[Sequence[Any]],
    room: Mapping[Any, float],
    gap: float,
) -> dict[Any, float]:
    x = {node: float(i * 100) for line in rows for i, node in enumerate(line)}
    for _ in range(_SWEEPS):
        for line in [*rows, *reversed(rows)]:
            wanted = [_mean([x[n] for n in nx.all_neighbors(net, node)], x[node]) for node in line]
            apart = [(room[a] + room[b]) / 2 + gap for a, b in pairwise(line)]
            x.update(zip(line, _apart(wanted, apart), strict=True))
    return x


def _apart(wanted: Sequence[float], apart: Sequence[float]) -> list[float]:
    """Places in order, at least so far apart, with the least squares from those wanted.

    With the distances taken off it is isotonic regression: neighbours in the wrong order are pooled
    at their mean.
    """
    offsets = list(accumulate(apart, initial=0.0))[: len(wanted)]
    pools: list[tuple[float, int]] = []  # mean, how many
    for place, offset in zip(wanted, offsets, strict=True):
        mean, count = place - offset, 1
        while pools and pools[-1][0] > mean:
            before, number = pools.pop()
            mean = (mean * count + before * number) / (count + number)
            count += number
        pools.append((mean, count))
    flat = [mean for mean, count in pools for _ in range(count)]
    return [place + offset for place, offset in zip(flat, offsets, strict=True)]


def _mean(numbers: Sequence[float], otherwise: float) -> float:
    return sum(numbers) / len(numbers) if numbers else otherwise
