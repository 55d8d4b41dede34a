"""A result as a notebook shows it: the report's contents, its figures drawn on the spot."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from analyses.results.report import fragment

if TYPE_CHECKING:
    from analyses.results.result import AnalysisResult

MAX_FIGURES = 12  # drawn; a result that has more names the rest


def result_html(result: AnalysisResult) -> str:
    """The result's question, verdict, figures as inline SVG, tables cut short, and provenance.

    Figures that are not drawn, because there are too many or the extra `plots` is not installed,
    are named in a line with how to see them.
    """
    drawable = find_spec("matplotlib") is not None and find_spec("seaborn") is not None
    drawn = list(result.figures)[:MAX_FIGURES] if drawable else []
    left_out = [name for name in result.figures if name not in drawn]
    html = fragment(result, {name: _drawing(result, name) for name in drawn})
    if not left_out:
        return html
    how = (
        "interp.charts.show(result.figures[name], result.tables[result.figures[name].table])"
        if drawable
        else "pip install 'interp[plots]'"
    )
    # Names of figures are of lower-case letters, digits, - and _.
    told = f"Figures not drawn here: {', '.join(left_out)}. To see them: <code>{how}</code>"
    return f"{html}\n<p>{told}</p>"


def _drawing(result: AnalysisResult, name: str) -> str:
    from interp.charts.export import svg
    from interp.charts.mpl import draw

    chart = result.figures[name]
    return svg(draw(chart, result.tables[chart.table]), chart)
