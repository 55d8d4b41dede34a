"""The picture of routes, as plotly is given it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip("plotly", reason="needs the extra 'dashboard'")

from analyses.flow.tables import edges_table, nodes_table
from dashboards.drawing import routes_figure
from interp.attribution import proximity_hooks, stream_importance, trace_routes
from interp.charts.palette import DARK, LIGHT
from interp.interventions import Place, Zero, applied
from tests.dashboards.screen import PROMPT


def test_the_picture_is_dark_on_a_dark_page_and_says_what_tokens_say(model):
    tokens = model.to_tokens(PROMPT)
    with torch.no_grad():
        names = proximity_hooks(model)
        plan = [Zero(Place("z", layers=0))]
        with applied(model, plan, input=tokens):
            _, cache = model.run_with_cache(tokens, names_filter=names)
    importance = stream_importance(cache)
    routes = trace_routes(importance, threshold=0.0)
    texts = ["<b>x</b>", "$y$", " ", "\n", "z" * 40, *"abcd"]
    nodes, edges = nodes_table(routes, texts), edges_table(routes, importance, texts)
    assert not ((edges["kind"] == "attention") & (edges["level"] == 1)).any()
    for dark, colors in ((False, LIGHT), (True, DARK)):
        figure = routes_figure.draw(nodes, edges, "importance", (4, 8), {8: "<i>"}, dark)
        used = {trace.line.color for trace in figure.data if trace.name in routes_figure.KINDS}
        assert used == {colors.categorical[i] for i in (0, 1, 6)}
        assert figure.layout.font.color == colors.ink
        assert figure.layout.annotations[0].text == "&lt;i&gt;"
        labels = list(figure.layout.xaxis.ticktext)
        assert labels[:4] == ["&lt;b&gt;x&lt;/b&gt;", "&#36;y&#36;", "·", "↵"]
        assert len(labels[4]) == 12
        told = next(trace.text for trace in figure.data if trace.name == "edges")
        assert not any("<b>x" in text or "$y" in text for text in told)


def test_edges_run_from_node_to_node_and_leave_the_stream_to_itself(model):
    nodes = pd.DataFrame(
        {
            "level": [0, 0, 0, 1, 1, 1], "stream": ["0_pre"] * 3 + ["0_post"] * 3,
            "position": [0, 1, 2] * 2, "token": ["a", "b", "c"] * 2, "flow": [0.2] * 6,
            "kept": [0.2] * 6, "on_route": [True] * 6,
        }
    )  # fmt: skip
    edges = pd.DataFrame(
        {
            "level": 1, "stream": "0_post", "layer": 0,
            "kind": ["residual", "attention", "MLP", "attention"],
            "source": [2, 2, 2, 0], "source_token": ["c", "c", "c", "a"], "destination": 2,
            "destination_token": "c", "importance": [0.4, 0.1, 0.3, 0.2],
            "flow": [0.4, 0.1, 0.3, 0.2], "head": ["", "L0H1", "", "L0H0"],
        }
    )  # fmt: skip
    figure = routes_figure.draw(nodes, edges, "importance", (1, 2), {}, dark=False)

    def line(kind, number=0):
        lines = [each for each in figure.data if each.name == kind and len(each.x) > 1]
        return np.array(lines[number].x[:-1]), np.array(lines[number].y[:-1])

    x, y = line("residual")
    assert set(x) == {2.0}
    assert (y[0], y[-1]) == (0.0, 1.0)
    x, _ = line("attention", 0)  # the thinner, from the position itself
    np.testing.assert_allclose(x[[0, -1]], 2.0)
    assert x.min() == pytest.approx(2 - 0.34)
    x, _ = line("MLP")
    assert x.max() == pytest.approx(2 + 0.34)
    x, y = line("attention", 1)
    np.testing.assert_allclose(x[[0, -1]], [0.0, 2.0])
    assert (np.diff(x) > 0).all()
    assert (np.diff(y) > 0).all()
    points = next(trace for trace in figure.data if trace.name == "edges")
    assert set(map(tuple, points.customdata)) == {(1, 2)}
    assert points.text[3] == (
        "attention, most by L0H1 into 0_post: 2 “c” → 2 “c”<br>importance 0.100, flow 0.100"
    )


def test_of_very_many_edges_those_of_most_flow_are_drawn(model, monkeypatch):
    monkeypatch.setattr(routes_figure, "MOST_EDGES", 7)
    tokens = model.to_tokens(PROMPT)
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=proximity_hooks(model))
    importance = stream_importance(cache)
    routes = trace_routes(importance, threshold=0.0)
    texts = list("abcdefghi")
    nodes, edges = nodes_table(routes, texts), edges_table(routes, importance, texts)
    assert len(edges) > 20
    figure = routes_figure.draw(nodes, edges, "flow", (4, 8), {}, dark=False)
    points = next(trace for trace in figure.data if trace.name == "edges")
    assert len(points.x) == 3 * 7
