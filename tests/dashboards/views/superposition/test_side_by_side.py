"""Toys in a single plot: each at a place of its own, all on one scale."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("plotly", reason="needs the extra 'dashboard'")

from dashboards.views.superposition.side_by_side import IN_A_ROW, figure
from interp.charts.palette import DARK


@pytest.mark.parametrize("d_hidden", [1, 2])
def test_every_column_begins_at_the_centre_of_its_toy(d_hidden):
    densities = [1.0, 0.5, 0.3, 0.2, 0.1, 0.05]
    W = torch.linspace(-1, 1, 6 * d_hidden * 3, dtype=torch.float64).view(6, d_hidden, 3)
    drawn = figure(W, densities, 1.5, DARK)
    assert len(drawn.data) == 3
    titles = {note.text: (note.x, note.y) for note in drawn.layout.annotations}
    assert list(titles) == [f"1-S = {p:g}" for p in densities]
    for feature, trace in enumerate(drawn.data):
        x = np.array(trace.x, dtype=float).reshape(6, 3)
        y = np.array(trace.y, dtype=float).reshape(6, 3)
        np.testing.assert_allclose(x[:, 1] - x[:, 0], W[:, 0, feature])
        expected = W[:, 1, feature] if d_hidden == 2 else torch.zeros(6)
        np.testing.assert_allclose(y[:, 1] - y[:, 0], expected, atol=1e-12)
        assert np.isnan(x[:, 2]).all()
        np.testing.assert_allclose(x[:, 0], [at for at, _ in titles.values()])
    centres = list(titles.values())
    assert centres[IN_A_ROW][0] == centres[0][0] and centres[IN_A_ROW][1] < centres[0][1]
    assert centres[1][0] - centres[0][0] > 2 * 1.5  # none reaches into the next
    assert drawn.layout.yaxis.scaleanchor == "x"
