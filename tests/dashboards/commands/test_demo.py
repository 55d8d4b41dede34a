from __future__ import annotations

import importlib.util
import json

import pytest

from analyses import AnalysisResult
from dashboards.commands import demo
from interp import zoo


@pytest.fixture
def without(monkeypatch):
    """Have these modules be absent."""

    def without(*absent):
        find = importlib.util.find_spec
        monkeypatch.setattr(demo, "find_spec", lambda name: None if name in absent else find(name))

    return without


def test_it_is_the_analysis_with_the_models_own_settings(call, tmp_path, monkeypatch):
    """What it draws is left out: `make demo` draws it, wherever the tests run."""
    pytest.importorskip("transformers", reason="needs the extra 'hf'")
    pytest.importorskip("seaborn", reason="needs the extra 'plots'")
    monkeypatch.setattr("interp.charts.mpl.draw", lambda chart, table: None)
    monkeypatch.setattr("interp.charts.export.svg", lambda figure, chart: "<svg></svg>")
    monkeypatch.setattr("interp.charts.export.png", lambda figure, chart: b"PNG")
    monkeypatch.chdir(tmp_path)
    code, out, err = call("demo")
    assert (code, err) == (0, "")
    assert out.endswith("open runs/demo/report.html, or run: interp dashboard --runs runs\n")
    folder = tmp_path / "runs" / "demo"
    assert (folder / "report.html").is_file() and any((folder / "figures").iterdir())
    saved = AnalysisResult.load(folder)
    assert (saved.name, saved.provenance.model, saved.passed) == (
        "head-attribution", "zoo:induction", True,
    )  # fmt: skip
    own = zoo.defaults("zoo:induction", "head-attribution")
    assert own and own.items() <= saved.provenance.parameters.items()

    code, out, _ = call("demo", "--json")  # an older result is replaced
    assert code == 0 and json.loads(out)["directory"] == "runs/demo"


def test_what_is_no_result_is_left_alone(call, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    code, _, err = call("demo", "--out", tmp_path)
    assert code == 2 and "is not empty and not a saved result" in err
    assert [each.name for each in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("absent", "told"),
    [
        (("transformers", "seaborn"), "transformers and seaborn are not installed: pip install "
         "'interp[hf,plots]'"),
        (("seaborn",), "seaborn is not installed: pip install 'interp[plots]'"),
    ],
)  # fmt: skip
def test_all_that_is_missing_is_named_at_once(call, without, tmp_path, absent, told):
    without(*absent)
    code, out, err = call("demo", "--out", tmp_path / "d")
    assert (code, out) == (2, "")
    assert err == f"error: the demo reads a prompt and draws figures, and {told}\n"
    assert not (tmp_path / "d").exists()
