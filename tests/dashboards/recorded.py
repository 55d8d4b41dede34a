"""What a page hands to `figures.chart` and `figures.table`, kept while it is drawn."""

from __future__ import annotations

from typing import Any

import pandas as pd

from dashboards.drawing import figures
from tests.dashboards.scripts import run_script


class Recorded:
    """Charts and tables by the start of their key.

    Attributes:
        charts: Chart, table and script of each.
        tables: Table and script of each.
    """

    def __init__(self, monkeypatch: Any) -> None:
        self.charts: dict[str, tuple[Any, pd.DataFrame, str]] = {}
        self.tables: dict[str, tuple[pd.DataFrame, str]] = {}
        chart, table = figures.chart, figures.table

        def keep_chart(drawn, frame, key, *rest, code=None, **more):
            self.charts[key] = (drawn, frame, code)
            chart(drawn, frame, key, *rest, code=code, **more)

        def keep_table(frame, key, name, code=None):
            self.tables[key] = (frame, code)
            table(frame, key, name, code)

        monkeypatch.setattr(figures, "chart", keep_chart)
        monkeypatch.setattr(figures, "table", keep_table)

    def chart(self, start: str) -> tuple[Any, pd.DataFrame]:
        """The chart whose key starts so, and its table."""
        (found,) = [value for key, value in self.charts.items() if key.startswith(start)]
        return found[:2]

    def check_scripts(self) -> int:
        """Run every script and compare what it leaves with what the page drew; how many."""
        given = {key: (frame, code) for key, (_, frame, code) in self.charts.items()}
        given |= {k: v for k, v in self.tables.items() if not k.endswith("/table/table")}
        for key, (frame, code) in given.items():
            assert code is not None, key
            pd.testing.assert_frame_equal(
                run_script(code), frame, check_dtype=False, rtol=0, atol=1e-5, obj=key
            )
        return len(given)
