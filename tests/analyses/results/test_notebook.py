"""What a notebook is given to show a result."""

from __future__ import annotations

import pandas as pd
import pytest

from analyses.results import notebook
from interp.charts import Chart
from interp.charts.tokens import legible
from tests.interp.charts.test_export import HOSTILE, Reader


def test_a_result_is_told_whole_and_as_data(make_result) -> None:
    pytest.importorskip("seaborn", reason="needs the extra 'plots'")
    table = pd.DataFrame({"i": range(len(HOSTILE)), "token": HOSTILE, "v": 0.5})
    chart = Chart(kind="bars", table="t", title="T", alt="<b>", x="i", x_text="token", value="v")
    result = make_result(tables={"t": table}, figures={"f": chart}, caveat="</p><script>")
    page = Reader(result._repr_html_())
    assert page.open == []
    tags = [tag for tag, _ in page.tags]
    assert tags.count("svg") == 1 and not {"script", "html", "body", "b"} & set(tags)
    cells = [text for row in page.cells for text in row]
    assert set(map(legible, HOSTILE)) <= set(cells)
    assert {"passed", "failed", "sums", "broken"} <= set(cells)
    assert page.texts["p"].startswith(result.question)


def test_figures_that_are_not_drawn_are_named(make_result, monkeypatch) -> None:
    result = make_result()
    monkeypatch.setattr(notebook, "find_spec", lambda name: None)
    html = notebook.result_html(result)
    assert "<svg" not in html and "Which &lt;layer&gt; scores?" in html
    assert "Figures not drawn here: scores. To see them: <code>pip install" in html
    monkeypatch.undo()
    pytest.importorskip("seaborn", reason="needs the extra 'plots'")
    figures = {f"f{i}": result.figures["scores"] for i in range(3)}
    monkeypatch.setattr(notebook, "MAX_FIGURES", 2)
    many = notebook.result_html(make_result(figures=figures))
    assert many.count("<svg") == 2
    assert "not drawn here: f2. To see them: <code>interp.charts.show(" in many
    assert "not drawn" not in notebook.result_html(make_result(figures={"f0": figures["f0"]}))
