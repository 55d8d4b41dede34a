"""A chart with its table, shown by a notebook as the picture, the text alternative and the rows."""

import base64

import pandas as pd

from interp.charts.markup import escape
from interp.charts.spec import Chart

_DIM = "opacity:.75;font-size:.875rem"


class Shown:
    """A chart and its table; the last line of a notebook's cell draws it."""

    def __init__(self, chart: Chart, table: pd.DataFrame) -> None:
        self.chart = chart
        self.table = table
        self._n_rows = len(chart.rows(table))

    def _repr_html_(self) -> str:
        from interp.charts.export import rows_html, svg
        from interp.charts.mpl import draw

        drawing = svg(draw(self.chart, self.table), self.chart)
        # As an image: its styles and ids stay apart from the notebook's.
        source = base64.b64encode(drawing.encode()).decode()
        alt = escape(self.chart.alt)
        return (
            '<figure class="interp-chart" style="margin:0">'
            f'<img src="data:image/svg+xml;base64,{source}" alt="{alt}" '
            'style="background:#fff;border-radius:6px;padding:6px;max-width:100%">'
            f'<figcaption style="{_DIM}">{alt}</figcaption>'
            f"<details><summary>The numbers</summary>"
            f"{rows_html(self.chart.rows(self.table))}</details></figure>"
        )

    def __repr__(self) -> str:
        return (
            f"{self.chart.title} ({self.chart.kind}, {self._n_rows} rows of table "
            f"{self.chart.table!r}): {self.chart.alt}"
        )


def show(chart: Chart, table: pd.DataFrame) -> Shown:
    """Show a chart in a notebook: `show(result.figures["heads"], result.tables["at-position"])`.

    Nothing is drawn before the notebook asks; that needs the extra `plots`.

    Args:
        chart: What to draw.
        table: The table that the chart names, all rows of it.

    Raises:
        InputError: As `Chart.rows`.
    """
    return Shown(chart, table)
