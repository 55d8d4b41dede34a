import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.charts import Chart
from interp.charts.graphs import NODE_HEIGHT, graph
from interp.charts.palette import BLANK, CATEGORICAL, NEGATIVE, POSITIVE

COLUMNS = ["source", "target", "low", "high", "value"]


def chart(**changes):
    fields = {"kind": "graph", "table": "t", "title": "T", "alt": "A", "value": "value"}
    ends = {"x": "source", "y": "target", "x_level": "low", "y_level": "high"}
    return Chart(**fields | ends | changes)


def table(*edges):
    return pd.DataFrame(edges, columns=COLUMNS)


@st.composite
def circuits(draw):
    """Edges between the nodes of up to five levels, each upwards."""
    sizes = draw(st.lists(st.integers(1, 14), min_size=2, max_size=5))
    level = {f"L{i}H{j}": i for i, size in enumerate(sizes) for j in range(size)}
    possible = [(a, b) for a in level for b in level if level[a] < level[b]]
    chosen = draw(st.lists(st.sampled_from(possible), min_size=1, max_size=25, unique=True))
    number = st.floats(-5, 5) | st.just(float("nan"))
    return table(*[(a, b, level[a], level[b], draw(number)) for a, b in chosen])


@settings(max_examples=25, deadline=None)
@given(circuits())
def test_nodes_do_not_overlap_and_edges_join_them(edges):
    drawn = graph(chart(signed=True), edges)
    nodes = {node.name: node for node in drawn.nodes}
    assert set(nodes) == {*edges["source"], *edges["target"]}
    placed = list(nodes.values())
    for i, a in enumerate(placed):
        assert drawn.node_width / 2 <= a.x <= drawn.width - drawn.node_width / 2
        assert NODE_HEIGHT / 2 <= a.y <= drawn.height - NODE_HEIGHT / 2
        for b in placed[:i]:
            assert abs(a.x - b.x) > drawn.node_width or abs(a.y - b.y) > NODE_HEIGHT
    assert len(drawn.edges) == len(edges)
    for edge in drawn.edges:
        source, target = nodes[edge.source], nodes[edge.target]
        assert source.y < target.y
        for at, node, side in ((edge.curve[0], source, 1), (edge.curve[-1], target, -1)):
            assert abs(at[0] - node.x) <= drawn.node_width / 2
            assert at[1] == pytest.approx(node.y + side * NODE_HEIGHT / 2)
        assert (edge.curve[:, 0] >= 0).all() and (edge.curve[:, 0] <= drawn.width).all()
    sizes = [np.nan_to_num(abs(edge.value)) for edge in drawn.edges]
    assert sizes == sorted(sizes)
    again = graph(chart(signed=True), edges)
    assert again.nodes == drawn.nodes
    for a, b in zip(again.edges, drawn.edges, strict=True):
        np.testing.assert_array_equal(a.curve, b.curve)


def test_higher_levels_stand_higher_and_names_are_in_order():
    edges = [("embed", f"L0H{i}", 0, 1.0, 1.0) for i in (10, 2, 1)]
    nodes = graph(chart(), table(*edges, ("L0H2", "logits", 1.0, 7, 1.0))).nodes
    assert [node.name for node in nodes] == ["embed", "L0H1", "L0H2", "L0H10", "logits"]
    assert [node.x for node in nodes[1:4]] == sorted(node.x for node in nodes[1:4])
    assert len({node.y for node in nodes}) == 3


def test_an_edge_goes_round_a_node_that_stands_in_its_way():
    drawn = graph(
        chart(), table(("a", "b", 0, 1, 1.0), ("b", "c", 1, 2, 1.0), ("a", "c", 0, 2, 2.0))
    )
    (between,) = [node for node in drawn.nodes if node.name == "b"]
    (long,) = [edge for edge in drawn.edges if (edge.source, edge.target) == ("a", "c")]
    inside = (abs(long.curve[:, 0] - between.x) < drawn.node_width / 2) & (
        abs(long.curve[:, 1] - between.y) < NODE_HEIGHT / 2
    )
    assert not inside.any()


def test_a_wide_level_takes_several_rows():
    edges = [("embed", f"L0H{i}", 0, 1, 1.0) for i in range(40)]
    drawn = graph(chart(), table(*edges))
    assert drawn.width < 13
    assert len({node.y for node in drawn.nodes}) > 3


def test_colors_and_dashes_say_the_sign():
    edges = table(
        ("a", "b", 0, 1, 1.0), ("a", "c", 0, 2, -2.0), ("b", "c", 1, 2, float("inf"))
    ).assign(kind=["q", "q", "k"])

    def styles(**changes):
        found = graph(chart(**changes), edges)
        return {(e.source, e.target): (e.color, e.dashed) for e in found.edges}, found

    ab, ac, bc = ("a", "b"), ("a", "c"), ("b", "c")
    by_sign, found = styles(signed=True)
    assert by_sign == {ab: (POSITIVE, False), ac: (NEGATIVE, False), bc: (BLANK, True)}
    assert (found.reach, found.groups) == (2.0, {})
    assert [edge.share for edge in found.edges] == [0.0, 0.5, 1.0]
    plain, _ = styles()
    assert {color for color, _ in plain.values()} == {CATEGORICAL[0]}
    assert plain[ac][1] and not plain[ab][1]
    grouped, found = styles(signed=True, color="kind")
    assert grouped[ab] == (CATEGORICAL[0], False)
    assert grouped[ac] == (CATEGORICAL[0], True)
    assert found.groups == {"q": CATEGORICAL[0], "k": CATEGORICAL[1]}


def test_long_names_stay_apart():
    edges = [("x", f"encoder.blocks.0.head {i}", 0, 1, 1.0) for i in range(3)]
    labels = [node.label for node in graph(chart(), table(*edges)).nodes]
    assert len(set(labels)) == 4


def test_edges_without_any_effect():
    drawn = graph(chart(signed=True), table(("a", "b", 0, 1, 0.0)))
    assert (drawn.reach, drawn.edges[0].share) == (0.0, 0.0)


def test_an_edge_that_bends_out_of_the_page_widens_it():
    """Two columns with hardly a gap between: the way round the left one is on its left."""
    names = [[f"{'n' * 30}{level}{column}" for column in range(2)] for level in range(3)]
    edges = [(names[0][0], names[2][0], 0, 2, 1.0)]
    edges += [(names[i][j], names[i + 1][j], i, i + 1, 1.0) for i in range(2) for j in range(2)]
    drawn = graph(chart(), table(*edges))
    nodes = {node.name: node for node in drawn.nodes}
    assert min(node.x for node in drawn.nodes) > drawn.node_width / 2 + 0.2
    for edge in drawn.edges:
        assert abs(edge.curve[0, 0] - nodes[edge.source].x) <= drawn.node_width / 2
        assert edge.curve[:, 0].min() >= 0.0 and edge.curve[:, 0].max() <= drawn.width
