"""A toy of three dimensions on the screen and in files: the same lines and edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("plotly", reason="needs the extra 'dashboard'")
pytest.importorskip("seaborn", reason="needs the extra 'plots'")

from analyses.superposition import one_toy
from dashboards.views.superposition import polytope, polytope_still
from interp.charts.palette import DARK, LIGHT
from interp.toys import polytopes
from interp.toys.geometry import recognise

# An octahedron, and a feature that is absent.
W = torch.cat([polytopes.octahedron(), torch.full((3, 1), 0.05, dtype=torch.float64)], 1)
TABLE, EDGES = one_toy.directions(W), one_toy.edges(W, recognise(W))


def test_the_screen_s_lines_go_to_the_columns():
    outline, *parts = polytope.solid_figure(TABLE, EDGES, 1.0, DARK).data
    assert len(outline.x) == 12 * 3
    tips = {}
    for part in parts:
        ends = zip(part.text, part.x, part.y, part.z, strict=True)
        tips |= {text: tip for text, *tip in ends if text}
    assert sorted(tips) == list("012345")
    for feature, tip in tips.items():
        np.testing.assert_allclose(tip, W[:, int(feature)], atol=1e-12)


def test_the_still_has_the_same_lines():
    hues = {f"digon {k}": LIGHT.categorical[k] for k in (1, 2, 3)}
    (axes,) = polytope_still.draw(TABLE, EDGES, 1.0, hues, "It").axes
    lines = [np.array(line.get_data_3d()) for line in axes.lines]
    assert len(lines) == 12 + 6
    drawn = {tuple(line[:, 1].round(9)) for line in lines[12:]}
    assert drawn == {tuple(column) for column in W[:, :6].T.round(decimals=9).tolist()}
    assert all((line[:, 0] == 0).all() for line in lines[12:])
    lengths = [float(np.linalg.norm(line[:, 0] - line[:, 1])) for line in lines[:12]]
    assert lengths == pytest.approx([2**0.5] * 12)


def test_files_carry_the_text_alternative_and_the_numbers():
    def made(suffix):
        return polytope.file(TABLE, EDGES, 1.0, "A solid <b>.", suffix)

    assert made("png").startswith(b"\x89PNG")
    assert "<desc>A solid &lt;b&gt;.</desc>" in made("svg").decode()
    page = made("html").decode()
    assert "octahedron" not in page and "digon 3" in page and "<script" not in page
