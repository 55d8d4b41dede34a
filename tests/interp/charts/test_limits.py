"""Scales that several charts share: kept by every kind, in both libraries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from interp.charts import Chart
from interp.charts.panels import limits, reach_of
from interp.errors import InputError

ROWS = pd.DataFrame({"a": [0, 1, 0, 1], "b": [0, 0, 1, 1], "v": [0.5, -1.0, 0.25, 2.0]})


def _chart(kind: str, **more: Any) -> Chart:
    columns = {"y": "v"} if kind in ("line", "points") else {"value": "v"}
    if kind == "heatmap":
        columns["y"] = "b"
    facet = {} if kind in ("heatmap", "points") else {"facet": "b"}
    return Chart(kind=kind, table="t", title="T", alt="A.", x="a", **columns, **facet, **more)


def test_colours_end_at_the_limits() -> None:
    chart = _chart("heatmap", signed=True, limits=(-4.0, 4.0))
    assert limits(chart, ROWS["v"].to_numpy()) == (-4.0, 4.0)
    assert reach_of(_chart("points", vectors=True, limits=(-3.0, 3.0)), ROWS) == 3.0


@pytest.mark.parametrize("kind", ["heatmap", "bars", "line", "points"])
def test_both_libraries_keep_them(kind: str) -> None:
    pytest.importorskip("plotly", reason="needs the extra 'dashboard'")
    pytest.importorskip("seaborn", reason="needs the extra 'plots'")
    from interp.charts import interactive, mpl

    chart = _chart(kind, limits=(-4.0, 5.0))
    drawn, still = interactive.draw(chart, ROWS), mpl.draw(chart, ROWS)
    if kind == "heatmap":
        assert (drawn.layout.coloraxis.cmin, drawn.layout.coloraxis.cmax) == (-4.0, 5.0)
        image = still.axes[0].collections or still.axes[0].images
        assert image[0].get_clim() == (-4.0, 5.0)
        return
    for axis in drawn.select_yaxes():
        assert tuple(axis.range) == (-4.0, 5.0)
    for axes in still.axes:
        assert (-4.0, 5.0) in (axes.get_ylim(), axes.get_xlim())


def test_a_logarithmic_axis_has_them_as_powers() -> None:
    pytest.importorskip("plotly", reason="needs the extra 'dashboard'")
    from interp.charts import interactive

    chart = Chart(
        kind="line", table="t", title="T", alt="A.", x="a", y="v", log_y=True, limits=(0.01, 10.0)
    )
    drawn = interactive.draw(chart, ROWS[ROWS["b"] == 0].assign(v=[0.5, 1.0]))
    np.testing.assert_allclose(drawn.layout.yaxis.range, (-2.0, 1.0))


def test_numbers_beyond_them_are_told() -> None:
    with pytest.raises(InputError, match=r"within its limits, -1\.5 … 1\.5, got 2"):
        _chart("heatmap", signed=True, limits=(-1.5, 1.5)).rows(ROWS)
    wide = ROWS.assign(a=[0, 9, 0, 1])
    with pytest.raises(InputError, match="got 9"):
        _chart("points", vectors=True, limits=(-3.0, 3.0)).rows(wide)
    _chart("heatmap", limits=(-1.0, 2.0)).rows(ROWS.assign(v=[0.5, -1.0, np.nan, 2.0]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"limits": (1.0, 1.0)}, "must rise"),
        ({"limits": (0.0, float("inf"))}, "must rise"),
        ({"limits": (-1.0, 2.0), "signed": True}, "symmetric"),
        ({"limits": (0.0, 2.0), "probability": True}, "take no limits"),
    ],
)
def test_limits_that_make_no_scale_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        _chart("heatmap", **settings)
