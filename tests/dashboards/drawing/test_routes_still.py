"""The still of the routes: the same lines as the picture of the page."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("seaborn", reason="needs the extra 'plots'")
pytest.importorskip("plotly", reason="needs the extra 'dashboard'")

from matplotlib.collections import LineCollection

from analyses import run_analysis
from dashboards.drawing import routes_figure, routes_still
from interp.charts.palette import LIGHT


def test_lines_points_and_labels(model):
    result = run_analysis("information-flow", model, tokens=[3, 4, 10, 3], threshold=0.1)
    nodes, edges = result.tables["nodes"], result.tables["edges"]
    figure = routes_still.draw(nodes, edges, "flow", {3: "predicts $x$"}, "Routes & so")
    (axes,) = figure.axes
    lines = [each for each in axes.collections if isinstance(each, LineCollection)]
    for kind, drawn in zip(routes_figure.KINDS, lines, strict=True):
        mine = edges[edges["kind"] == kind].nlargest(len(edges), "flow")[::-1]
        assert len(drawn.get_segments()) == len(mine) > 0
        np.testing.assert_allclose(drawn.get_segments(), routes_figure.curves(mine))
        np.testing.assert_allclose(drawn.get_linewidths(), 0.6 + 4.4 * mine["flow"])
    others, on_routes = axes.collections[-2:]
    assert len(on_routes.get_offsets()) == nodes["on_route"].sum()
    assert len(others.get_offsets()) == (~nodes["on_route"]).sum()
    texts = [label.get_text() for label in axes.get_xticklabels()]
    assert texts == routes_figure.token_labels(result.provenance.str_tokens[0])
    assert [label.get_text() for label in axes.get_yticklabels()][-1] == "1_post"
    assert axes.texts[0].get_text() == "predicts $x$"
    assert not axes.texts[0].get_parse_math()
    assert tuple(on_routes.get_facecolor()[0][:3]) == pytest.approx(
        [int(LIGHT.ink[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    )
