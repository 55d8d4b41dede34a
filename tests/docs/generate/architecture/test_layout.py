"""A drawn graph: nothing overlaps, edges go down, and the order is a good one."""

from __future__ import annotations

import itertools

import networkx as nx
from hypothesis import given, settings
from hypothesis import strategies as st

from docs.generate.architecture.layout import _apart, lay_out


@st.composite
def _graphs(draw):
    n = draw(st.integers(1, 9))
    row = {i: draw(st.integers(0, 4)) for i in range(n)}
    pairs = [(a, b) for a in range(n) for b in range(n) if row[a] < row[b]]
    graph = nx.DiGraph()
    graph.add_nodes_from(range(n))
    graph.add_edges_from(draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else [])
    return graph, row, {i: draw(st.floats(5, 200)) for i in range(n)}


@settings(max_examples=40, deadline=None)
@given(_graphs())
def test_nodes_of_a_row_keep_their_distance(drawn):
    graph, row, width = drawn
    found = lay_out(graph, row, width, gap=8)
    assert {node for line in found.rows for node in line} == set(graph)
    for at, line in enumerate(found.rows):
        assert all(row[node] == at for node in line)
        for a, b in itertools.pairwise(line):
            assert found.x[b] - found.x[a] >= (width[a] + width[b]) / 2 + 8 - 1e-6
    assert min(found.x[n] - width[n] / 2 for n in graph) >= -1e-6
    assert max(found.x[n] + width[n] / 2 for n in graph) <= found.width + 1e-6
    for (start, end), bends in found.bends.items():
        assert len(bends) == row[end] - row[start] - 1


def test_a_ladder_is_drawn_without_crossings():
    graph = nx.DiGraph([("a", "y"), ("b", "x"), ("c", "z")])
    row = dict.fromkeys("abc", 0) | dict.fromkeys("xyz", 1)
    found = lay_out(graph, row, dict.fromkeys("abcxyz", 10.0), gap=5)
    below = {"a": "y", "b": "x", "c": "z"}
    assert [below[node] for node in found.rows[0]] == list(found.rows[1])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=7), st.floats(0.5, 20))
def test_places_are_the_nearest_that_keep_apart(wanted, distance):
    """The least squares: no small move that keeps the distances comes nearer."""
    found = _apart(wanted, [distance] * (len(wanted) - 1))
    gaps = [b - a for a, b in itertools.pairwise(found)]
    assert all(gap >= distance - 1e-6 for gap in gaps)

    def cost(places):
        return sum((a - b) ** 2 for a, b in zip(places, wanted, strict=True))

    for first in range(len(found)):
        for last in range(first + 1, len(found) + 1):
            for step in (-1e-3, 1e-3):
                moved = [x + step * (first <= i < last) for i, x in enumerate(found)]
                apart = [b - a for a, b in itertools.pairwise(moved)]
                if all(gap >= distance - 1e-9 for gap in apart):
                    assert cost(moved) >= cost(found) - 1e-6
