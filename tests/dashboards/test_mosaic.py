from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("plotly", reason="needs the extra 'dashboard'")

from dashboards import mosaic


def random_patterns(n_layers, n_heads, n):
    generator = np.random.default_rng(0)
    return generator.random((n_layers, n_heads, n, n), dtype=np.float32)


@pytest.mark.parametrize("shape", [(1, 4, 7), (3, 5, 2), (2, 1, 1), (1, 12, 30)])
@pytest.mark.parametrize("columns", [1, 4, 100])
def test_every_number_is_drawn_once_and_named(shape, columns):
    patterns = random_patterns(*shape)
    layers = tuple(range(5, 5 + shape[0]))
    heatmap, names = mosaic.draw(patterns, layers, columns).data
    drawn = ~np.isnan(heatmap.z)
    assert drawn.sum() == patterns.size
    layer, head, destination, source = heatmap.customdata[drawn].T
    np.testing.assert_array_equal(heatmap.z[drawn], patterns[layer - 5, head, destination, source])
    assert names.text == tuple(f"L{i}H{h}" for i in layers for h in range(shape[1]))


def test_a_name_stands_above_its_tile():
    heatmap, names = mosaic.draw(random_patterns(2, 3, 10), (0, 1), 3).data
    for x, y, (layer, head) in zip(names.x, names.y, names.customdata, strict=True):
        rows, columns = np.nonzero(
            ~np.isnan(heatmap.z)
            & (heatmap.customdata[..., 0] == layer)
            & (heatmap.customdata[..., 1] == head)
        )
        assert columns.min() <= x <= columns.max() and y < rows.min()


def test_rows_of_tiles_are_about_equally_long():
    heatmap = mosaic.draw(random_patterns(1, 8, 20), (0,), 6).data[0]
    tiles_across = np.diff(np.isnan(heatmap.z).all(0).astype(int)).tolist().count(-1)
    assert tiles_across == 4
