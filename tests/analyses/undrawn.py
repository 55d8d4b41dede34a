"""Figures up to where drawing them begins: panels and places are found, nothing is drawn."""

from __future__ import annotations

from typing import Any

import pandas as pd

from interp.charts import Chart
from interp.charts.graphs import graph
from interp.charts.panels import grids, panels


def lay_out(chart: Chart, table: pd.DataFrame) -> Any:
    """What a chart's kind is drawn from; raises what drawing it would raise."""
    prepare: Any = {"graph": graph, "heatmap": grids, "attention": grids}.get(chart.kind, panels)
    return prepare(chart, table)
