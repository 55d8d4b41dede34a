import pandas as pd
import pytest

from analyses import AnalysisResult, Check
from analyses.results.provenance import collect
from interp.charts import Chart
from tests.analyses.undrawn import lay_out


@pytest.fixture
def undrawn_figures(monkeypatch):
    """Figures are laid out, but not drawn and written as SVG and PNG, which takes seconds.

    `test_every_analysis` draws and writes them.
    """
    monkeypatch.setattr("interp.charts.mpl.draw", lay_out)
    monkeypatch.setattr("interp.charts.export.svg", lambda figure, chart: "<svg></svg>")
    monkeypatch.setattr("interp.charts.export.png", lambda figure, chart: b"PNG")


@pytest.fixture(scope="session")
def make_result():
    """A maker of small results; keyword arguments replace its parts."""

    def make(**changes):
        table = pd.DataFrame(
            {
                "token": [" a", "<b>", "", "你\n"],
                "layer": [0, 1, 2, 3],
                "score": [0.1, float("nan"), 1e-300, float("inf")],
                "on": [True, False, True, True],
            }
        )
        chart = Chart(
            kind="bars", table="scores", title="Scores & more", alt="All <small>", x="layer",
            x_text="token", value="score",
        )  # fmt: skip
        parts = {
            "name": "demo",
            "question": "Which <layer> scores?",
            "tables": {
                "scores": table,
                "small": table.astype({"layer": "int8", "score": "float32"}),
            },
            "figures": {"scores": chart},
            "checks": [Check("sums", 1e-7, 1e-5, "in float32"), Check("broken", float("nan"), 1.0)],
            "provenance": collect(
                tokens=[[1, 2]],
                str_tokens=[["<s>", " a"]],
                parameters={"prompt": "x\ny", "n": 3, "deep": {"a": [1.5, None]}},
                seed=7,
            ),
        }
        return AnalysisResult(**parts | changes)

    return make
