import numpy as np
import pandas as pd
import pytest

from interp.charts import Chart
from interp.charts.palette import CATEGORICAL, group_colors, ramp
from interp.charts.panels import grids, limits, panels, ticks
from interp.errors import InputError

# Rows out of order; positions 0 and 2 carry the same token.
TABLE = pd.DataFrame(
    [
        {"head": head, "q": q, "k": k, "p": 100 * head + 10 * q + k, "tok": "ab a"[k]}
        for head in (1, 0)
        for q in (2, 0, 1)
        for k in (1, 2, 0)
        if k <= q
    ]
).assign(tok=lambda t: t["k"].map({0: " a", 1: "b", 2: " a"}))


def chart(**changes):
    fields = {"kind": "heatmap", "table": "t", "title": "T", "alt": "A"}
    return Chart(**fields | {"x": "k", "y": "q", "value": "p", "x_text": "tok"} | changes)


def test_equal_tokens_stay_apart():
    (grid,) = grids(chart(where={"head": 0}), TABLE)
    assert grid.x.keys == [0, 1, 2]
    assert grid.x.labels == ["·a₀", "b", "·a₂"]
    nan = np.nan
    np.testing.assert_array_equal(grid.values, [[0, nan, nan], [10, 11, nan], [20, 21, 22]])


def test_facets_are_ordered_and_named():
    found = grids(chart(facet="head"), TABLE)
    assert [grid.title for grid in found] == ["head 0", "head 1"]
    assert found[1].values[2, 1] == 121


def test_infinite_cells_are_blank():
    table = TABLE.assign(p=TABLE["p"].where(TABLE["k"] > 0, -np.inf))
    (grid,) = grids(chart(where={"head": 0}), table)
    assert np.isnan(grid.values[:, 0]).all()
    assert grid.values[2, 2] == 22


def test_one_position_with_two_tokens_is_refused():
    table = TABLE.assign(tok=[str(i) for i in range(len(TABLE))])
    with pytest.raises(InputError, match="carries several texts in column 'tok'"):
        grids(chart(where={"head": 0}), table)


def test_texts_keep_their_order():
    table = pd.DataFrame({"name": ["embed", "attn 0", "attn"], "v": [1.0, 2.0, 3.0]})
    bars = Chart(kind="bars", table="t", title="T", alt="A", x="name", value="v", facet="name")
    assert [panel.title for panel in panels(bars, table)] == ["embed", "attn 0", "attn"]


@pytest.mark.parametrize(
    ("changes", "values", "expected"),
    [
        ({"signed": True}, [-1.0, 3.0, np.nan], (-3, 3)),
        ({"signed": True}, [0.0], (-1, 1)),
        ({"probability": True}, [0.4, 0.5], (0, 1)),
        ({}, [2.0, 5.0], (2, 5)),
        ({}, [2.0], (2, 3)),
        ({}, [np.nan], (0, 1)),
    ],
)
def test_limits(changes, values, expected):
    assert limits(chart(**changes), np.array(values)) == expected


def test_ticks_step_by_round_numbers():
    assert ticks(5, 10) == [0, 1, 2, 3, 4]
    assert ticks(12, 6) == [0, 2, 4, 6, 8, 10]
    assert ticks(160, 40)[:3] == [0, 5, 10]
    assert ticks(300, 29)[1] == 20
    assert ticks(3, 0) == [0]


def test_colors():
    assert group_colors(3) == list(CATEGORICAL[:3])
    assert len(set(group_colors(30))) == 30
    assert ramp(("#000000", "#ffffff", "#ff0000"), 0.25) == "#808080"
    assert ramp(("#000000", "#ffffff", "#ff0000"), 1.0) == "#ff0000"
