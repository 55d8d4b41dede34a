import json

import pytest

pytest.importorskip("seaborn", reason="needs the extra 'plots'")

from analyses import AnalysisResult, register, registry
from tests.analyses.grids.small import Steep, SteepModel


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(registry, "_import_all", lambda: None)
    monkeypatch.setattr(Steep, "runs", [])
    monkeypatch.setattr("interp.charts.export.svg", lambda figure, chart: "<svg></svg>")
    monkeypatch.setattr("interp.charts.export.png", lambda figure, chart: b"PNG")
    register(Steep)
    register(SteepModel)


def test_a_grid_is_run_saved_and_shown(call, tmp_path):
    request = ["run", "steep", "--out", tmp_path / "g", "--set", "word=x", "--grid", "slope=1,2"]
    code, out, err = call(*request, "--grid", "places=[[0], [1, 2]]", "--json")
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert [run[0::2] for run in Steep.runs] == [
        (1.0, (0,)), (1.0, (1, 2)), (2.0, (0,)), (2.0, (1, 2)),
    ]  # fmt: skip
    assert told["name"] == "steep-grid" and told["tables"]["line"]["rows"] == 6
    head = told["tables"]["line"]["head"][-1]
    assert head == {
        "cell": 3, "slope": 2.0, "places": "[1, 2]", "place": 2, "height": 4.0, "word": "x",
    }  # fmt: skip
    code, shown, _ = call("show", tmp_path / "g")
    assert code == 0 and "steep-grid" in shown and "slope=2.0, places=[1, 2]" in shown


def test_a_cell_that_fails_exits_1_and_keeps_the_others(call, tmp_path):
    code, _, err = call("run", "steep", "--out", tmp_path / "g", "--grid", "slope=1,-1,2")
    assert (code, err) == (1, "error: 1 of 3 checks failed: cells that failed\n")
    assert len(AnalysisResult.load(tmp_path / "g").tables["line"]) == 4


def test_models_are_an_axis(call, tmp_path, make_model):
    models = [tmp_path / "a", tmp_path / "b"]
    for model in models:
        make_model().save(model)
    named = [each for model in models for each in ("--model", model)]
    code, out, _ = call("run", "steep-model", "--out", tmp_path / "g", *named, "--json")
    cells = json.loads(out)["tables"]["grid-cells"]["head"]
    assert code == 0 and [cell["model"] for cell in cells] == list(map(str, models))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["steep", "--grid", "slope"], "--grid takes key=value,value, got 'slope'"),
        (["steep", "--grid", "slop=1"], "unknown parameter 'slop'; did you mean 'slope'"),
        (["steep", "--grid", "slope=1", "--grid", "slope=2"], "--grid slope is given twice"),
        (["steep", "--grid", "slope=1,x"], "steep: parameter 'slope': "),
        (["steep", "--grid", "places=[[0]"], "--grid places takes values or a JSON list"),
        (["steep", "--grid", "slope=1", "--set", "slope=2"], "a parameter is either set or an"),
        (["steep", "--engine", "ray"], "--engine ray is for grids"),
        (["steep", "--grid", "slope=1", "--workers", "2"], "the local engine is one worker"),
        (["steep", "--grid", "slope=1", "--engine", "dask"], "unknown engine 'dask'"),
        (["steep-model", "--model", "a", "--model", "b", "--dtype", "int8"], "--dtype takes"),
    ],
)
def test_bad_requests_exit_2_with_one_line(call, tmp_path, args, message):
    code, out, err = call("run", *args, "--out", tmp_path / "g")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}") and err.count("\n") == 1
    assert not (tmp_path / "g").exists()
