from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest

pytest.importorskip("plotly", reason="needs the extra 'dashboard'")

from PIL import Image

from dashboards.drawing import mosaic
from interp.charts.palette import DARK, LIGHT, channels, ramp


def random_patterns(n_layers, n_heads, n, causal=False):
    generator = np.random.default_rng(0)
    patterns = generator.random((n_layers, n_heads, n, n), dtype=np.float32)
    return np.where(np.tri(n, dtype=bool), patterns, np.nan) if causal else patterns


def pixels(figure):
    """The picture's shades `[y, x]` as the page gets them, and the colour of each shade."""
    kind, _, data = figure.data[0].source.partition(",")
    assert kind == "data:image/png;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.mode == "P"
    return np.array(image), np.array(image.getpalette()).reshape(-1, 3)


def space(n):
    """For the name above a tile of this many destinations."""
    return max(1, round(0.22 * n))


def tile(figure, layer, head, n):
    """The shades of one head: those below its name, about the point that opens both."""
    (x, y), *more = [
        (x, y)
        for x, y, of in zip(*(figure.data[2][k] for k in ("x", "y", "customdata")), strict=True)
        if tuple(of) == (layer, head)
    ]
    assert not more
    left, top = round(x - (n - 1) / 2), round(y - (n - space(n) - 1) / 2)
    return pixels(figure)[0][top : top + n, left : left + n]


@pytest.mark.parametrize("shape", [(1, 4, 7), (3, 5, 2), (2, 1, 1), (1, 12, 30)])
@pytest.mark.parametrize("columns", [1, 4, 100])
def test_every_number_is_drawn_once_around_the_point_that_opens_its_head(shape, columns):
    patterns = random_patterns(*shape, causal=True)
    layers = tuple(range(5, 5 + shape[0]))
    figure = mosaic.draw(patterns, layers, columns)
    for i, layer in enumerate(layers):
        for head in range(shape[1]):
            shades = tile(figure, layer, head, shape[2])
            absent = np.isnan(patterns[i, head])
            np.testing.assert_array_equal(shades == mosaic.LEVELS, absent)
            error = shades / (mosaic.LEVELS - 1) - patterns[i, head]
            assert np.abs(error[~absent]).max() <= 1 / 508 + 1e-7
    drawn = pixels(figure)[0] != mosaic.LEVELS
    assert drawn.sum() == np.isfinite(patterns).sum()
    assert figure.data[1].text == tuple(f"L{i}H{h}" for i in layers for h in range(shape[1]))


@pytest.mark.parametrize("dark", [False, True])
def test_shades_are_the_scale_of_the_theme(dark):
    theme = DARK if dark else LIGHT
    figure = mosaic.draw(random_patterns(1, 2, 4), (0,), 2, dark=dark)
    colors = pixels(figure)[1]
    for level in (0, 100, 254):
        assert tuple(colors[level]) == channels(ramp(theme.sequential, level / 254))
    between = colors[mosaic.LEVELS].tolist()
    assert between == list(channels(ramp((theme.paper, theme.blank), 0.5)))
    assert figure.layout.paper_bgcolor == theme.paper
    assert figure.data[1].textfont.color == theme.ink


def test_a_name_stands_above_its_tile():
    figure = mosaic.draw(random_patterns(2, 3, 10), (0, 1), 3)
    names, centres = figure.data[1:]
    assert names.x == centres.x
    for name, centre in zip(names.y, centres.y, strict=True):
        assert centre - name == 5
    for below, above in ((3, 0), (4, 1), (5, 2)):
        # A name is nearer to the point of its own head than to that of the head above.
        assert centres.y[below] - names.y[below] < names.y[below] - centres.y[above]


def test_the_chosen_head_is_outlined():
    patterns = random_patterns(2, 3, 10)
    assert not mosaic.draw(patterns, (4, 5), 3).layout.shapes
    assert not mosaic.draw(patterns, (4, 5), 3, chosen=(0, 1)).layout.shapes  # not drawn here
    figure = mosaic.draw(patterns, (4, 5), 3, chosen=(5, 1))
    (outline,) = figure.layout.shapes
    (inside,) = [
        tuple(of)
        for x, y, of in zip(*(figure.data[2][k] for k in ("x", "y", "customdata")), strict=True)
        if outline.x0 < x < outline.x1 and outline.y0 < y < outline.y1
    ]
    assert inside == (5, 1)
    assert outline.x1 - outline.x0 == outline.y1 - outline.y0 == 10


def test_the_nearest_tile_is_found_from_anywhere():
    figure = mosaic.draw(random_patterns(2, 3, 10), (0, 1), 3)
    assert (figure.layout.hoverdistance, figure.layout.hovermode) == (-1, "closest")
    assert [trace.hoverinfo for trace in figure.data[:2]] == ["skip", "skip"]


def test_sources_need_not_be_destinations():
    """Cross-attention: another number of sources."""
    patterns = random_patterns(1, 2, 6)[..., :4]
    figure = mosaic.draw(patterns, (0,), 2)
    shades = pixels(figure)[0]
    x, y = figure.data[2].x[1], figure.data[2].y[1]
    top = round(y - (6 - space(6) - 1) / 2)
    found = shades[top : top + 6, round(x - 1.5) : round(x + 2.5)]
    np.testing.assert_allclose(found / 254, patterns[0, 1], atol=1 / 508 + 1e-7)


def test_rows_of_tiles_are_about_equally_long():
    shades = pixels(mosaic.draw(random_patterns(1, 8, 20), (0,), 6))[0]
    gaps = (shades == mosaic.LEVELS).all(0).astype(int)
    assert np.diff(gaps).tolist().count(-1) == 4  # tiles across


def test_a_page_gets_a_byte_for_each_number_at_most():
    patterns = random_patterns(4, 12, 32)
    size = len(figure := mosaic.draw(patterns, tuple(range(4)), 12).to_json())
    assert size < 1.6 * patterns.size + 40_000  # base64 of what no compression can shorten
    assert json.loads(figure)["data"][0]["type"] == "image"
