import os
import shutil

import pandas as pd
import pytest

import analyses
from analyses import AnalysisResult, register, registry, run_analysis
from analyses.grids.cells import OpenCellWorker
from analyses.grids.plan import read_plan
from analyses.grids.run import GridError
from interp.errors import InputError
from interp.files.lock import LockedError, locked
from interp.progress import listening
from tests.analyses.grids.small import Steep, SteepModel


@pytest.fixture(autouse=True)
def known(monkeypatch, undrawn_figures):
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(registry, "_import_all", lambda: None)
    monkeypatch.setattr(Steep, "runs", [])
    register(Steep)
    register(SteepModel)


def run_grid(*arguments, **named):
    """Without pictures, which take most of the time."""
    return analyses.run_grid(*arguments, **{"pictures": False, **named})


GRID = {"slope": [1, 2.5], "word": ["a", "b, c"]}


def test_a_grid_is_its_cells_one_below_the_other(tmp_path):
    result = run_grid("steep", settings={"places": [0, 3]}, grid=GRID, out=tmp_path / "g")
    product = [(slope, word) for slope in (1.0, 2.5) for word in ("a", "b, c")]
    assert Steep.runs == [(slope, word, (0, 3)) for slope, word in product]
    alone = [run_analysis("steep", slope=s, word=w, places=[0, 3]) for s, w in product]
    expected = pd.concat(
        [
            each.tables["line"].assign(cell=n, slope=s, grid_word=w)
            for n, (each, (s, w)) in enumerate(zip(alone, product, strict=True))
        ],
        ignore_index=True,
    )[["cell", "slope", "grid_word", "place", "height", "word"]]
    pd.testing.assert_frame_equal(result.tables["line"], expected, check_exact=True)
    overview = result.tables["grid-cells"]
    assert overview[["slope", "word"]].values.tolist() == [list(pair) for pair in product]
    assert overview["done"].all() and (overview["fault"] == "").all()
    assert result.passed and len(result.checks) == 5
    assert result.checks[1].name == "slope=1.0, word=a: slope is at most 5"
    chart = result.figures["line-cell-3"]
    assert chart.where == {"cell": 3} and chart.title == "The line · slope=2.5, word=b, c"
    assert chart.rows(result.tables["line"])["height"].tolist() == [0.0, 7.5]


def test_it_is_saved_and_read_as_any_result(tmp_path):
    result = run_grid("steep", grid=GRID, out=tmp_path / "g", pictures=True)
    again = AnalysisResult.load(tmp_path / "g")
    assert (again.figures, again.checks) == (result.figures, result.checks)
    assert again.provenance == result.provenance
    for name, table in result.tables.items():
        pd.testing.assert_frame_equal(again.tables[name], table, check_exact=True)
    assert (tmp_path / "g" / "report.html").is_file()
    assert sorted(os.listdir(tmp_path / "g" / "cells")) == [f"{n:05d}" for n in range(4)]
    from dashboards.runs.saved import find

    assert [run.name for run in find(tmp_path)] == ["g"]  # cells are no runs of their own


def test_its_provenance_tells_what_all_cells_share(tmp_path):
    record = run_grid("steep", settings={"seed": 4}, grid=GRID, out=tmp_path / "g").provenance
    assert record.parameters == {"places": [0, 1], "seed": 4}
    assert record.seed == 4
    assert record.grid == {
        "analysis": "steep", "models": [], "settings": {"seed": 4},
        "axes": {"slope": [1.0, 2.5], "word": ["a", "b, c"]}, "quick": False, "device": None,
        "dtype": None,
    }  # fmt: skip
    seeds = run_grid("steep", grid={"seed": [1, 2]}, out=tmp_path / "s").provenance
    assert seeds.seed is None and "seed" not in seeds.parameters


def test_cells_may_differ_in_their_columns_and_tables(tmp_path):
    result = run_grid("steep", grid={"word": ["a", "more"]}, out=tmp_path / "g")
    line = result.tables["line"]
    assert line["steps"].isna().tolist() == [True, True, False, False]
    assert line["up"].tolist() == ["", "", "False", "True"]
    extra = result.tables["extra"]
    assert extra.values.tolist() == [[1, "more", "x", 7]]
    assert list(extra.columns) == ["grid_cell", "word", "model", "cell"]
    AnalysisResult.load(tmp_path / "g")


def test_a_cell_that_fails_is_told_and_run_again_alone(tmp_path, monkeypatch):
    grid = {"slope": [1, -1, -2, 9]}
    result = run_grid("steep", grid=grid, out=tmp_path / "g")
    overview = result.tables["grid-cells"]
    assert overview["done"].tolist() == [True, False, False, True]
    assert overview["fault"].tolist() == [
        "", "slopes are not -1. Received -1.", "MemoryError: no room", "",
    ]  # fmt: skip
    assert [check.passed for check in result.checks] == [False, True, False]
    assert result.checks[0].name == "cells that failed" and result.checks[0].value == 2
    assert result.tables["line"]["cell"].unique().tolist() == [0, 3]
    assert "2 of 4 cells failed" in result.caveat
    Steep.runs.clear()
    real = Steep.run
    monkeypatch.setattr(
        Steep, "run",
        lambda self, model, p: real(self, model, p.model_copy(update={"slope": abs(p.slope)})),
    )  # fmt: skip
    mended = run_grid("steep", grid=grid, out=tmp_path / "g")
    assert [run[0] for run in Steep.runs] == [1, 2]
    assert mended.tables["grid-cells"]["done"].all() and mended.checks[0].passed
    assert os.listdir(tmp_path / "g" / "cells") and not (tmp_path / "g" / "faults").exists()


def test_where_every_cell_fails_there_is_no_result(tmp_path):
    with pytest.raises(GridError, match=r"all 2 cells failed; the first: slopes are not -1"):
        run_grid("steep", grid={"slope": [-1, -2]}, out=tmp_path / "g")
    assert not (tmp_path / "g" / "result.json").exists()


def test_a_grid_that_was_stopped_goes_on(tmp_path, monkeypatch):
    real = Steep.run

    def stopped(self, model, params):
        if params.slope == 3:
            raise KeyboardInterrupt
        return real(self, model, params)

    grid = {"slope": [1, 2, 3, 4]}
    whole = run_grid("steep", grid=grid, out=tmp_path / "whole")
    Steep.runs.clear()
    monkeypatch.setattr(Steep, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_grid("steep", grid=grid, out=tmp_path / "g")
    assert not (tmp_path / "g" / "result.json").exists()
    monkeypatch.setattr(Steep, "run", real)
    heard = []
    with listening(lambda done, line: heard.append((done, line))):
        result = run_grid("steep", grid=grid, out=tmp_path / "g")
    assert [run[0] for run in Steep.runs] == [1, 2, 3, 4]  # each once in both calls together
    assert heard == [(0.0, "2 of 4 cells to run"), (0.5, "cell 1 of 2"), (1.0, "cell 2 of 2")]
    for name, table in whole.tables.items():
        pd.testing.assert_frame_equal(result.tables[name], table, check_exact=True)


def test_a_grid_with_other_settings_is_refused_with_what_differs(tmp_path):
    run_grid("steep", grid=GRID, out=tmp_path / "g")
    with pytest.raises(InputError, match=r"settings: \{\} → \{\"seed\": 3\}; .*quick: false → tr"):
        run_grid("steep", settings={"seed": 3}, grid=GRID, quick=True, out=tmp_path / "g")
    with pytest.raises(InputError, match=r"axes: .* → \{\"slope\": \[1.0\]\}"):
        run_grid("steep", grid={"slope": [1]}, out=tmp_path / "g")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"out must be empty, or a grid .*other holds other files"):
        run_grid("steep", grid=GRID, out=tmp_path / "other")
    assert os.listdir(tmp_path / "other") == ["thesis.tex"]


def test_a_worker_whose_driver_is_gone_changes_nothing(tmp_path):
    run_grid("steep", grid=GRID, out=tmp_path)
    plan, before = read_plan(tmp_path), (tmp_path / "cells" / "00001" / "result.json").read_bytes()
    with locked(tmp_path) as token:
        worker = OpenCellWorker(plan, str(tmp_path), {}, token)()
        made = worker.make(1)
    with locked(tmp_path), pytest.raises(LockedError):
        worker.finish(made)
    assert (tmp_path / "cells" / "00001" / "result.json").read_bytes() == before


def test_a_damaged_cell_is_told_and_can_be_run_again(tmp_path):
    run_grid("steep", grid=GRID, out=tmp_path / "g")
    cell = tmp_path / "g" / "cells" / "00001"
    (cell / "tables" / "line.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"line.parquet is damaged.*Delete .*00001, and it is run"):
        run_grid("steep", grid=GRID, out=tmp_path / "g")
    shutil.rmtree(cell)
    assert run_grid("steep", grid=GRID, out=tmp_path / "g").passed
    assert len(Steep.runs) == 5


def test_models_are_an_axis_and_must_stay_as_they_are(tmp_path, make_model):
    models = [tmp_path / "a", tmp_path / "b"]
    for model, size in zip(models, (20, 16), strict=True):
        make_model(d_mlp=size).save(model)
    result = run_grid("steep-model", models, grid={"slope": [1, 2]}, out=tmp_path / "g")
    assert result.tables["grid-cells"]["model"].tolist() == [str(m) for m in models for _ in "12"]
    record = result.provenance
    assert record.model is None and record.weight_hash is None
    assert set(record.beside) == set(map(str, models)) and len(set(record.beside.values())) == 2
    shutil.rmtree(tmp_path / "g" / "cells" / "00001")
    shutil.rmtree(models[0])
    make_model(d_mlp=8).save(models[0])
    with pytest.raises(InputError, match=r"the weights of .*a are others than those of the cells"):
        run_grid("steep-model", models, grid={"slope": [1, 2]}, out=tmp_path / "g")


def test_charts_are_those_of_the_first_cells(tmp_path):
    result = run_grid("steep", grid={"slope": list(range(30))}, out=tmp_path / "g")
    assert len(result.figures) == 24
    assert "Charts are those of the first 24 of 30 cells" in result.caveat


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"name": "step"}, "unknown analysis 'step'; did you mean 'steep'"),
        ({"name": "steep-model"}, "steep-model needs at least one model. Received none"),
        ({"models": ["x"]}, "steep takes no model. Received x"),
        ({"models": "x"}, "models must be a list of names. Received 'x'"),
        ({"name": "steep-model", "models": ["x", "x"]}, "'models'. Received 'x' twice"),
        ({"grid": {"slop": [1]}}, "unknown parameter of steep 'slop'"),
        ({"grid": {"slope": []}}, r"at least one value: 'slope'. Received \[\]"),
        ({"grid": {"word": "ab"}}, "takes a list of values: 'word'. Received 'ab'"),
        ({"grid": {"slope": [1, 1.0]}}, "must differ: 'slope'. Received 1.0 twice"),
        ({"grid": {"slope": [1, "x"]}}, "parameter 'slope': .*, got 'x'"),
        ({"grid": {"seed": [1]}, "settings": {"seed": 1}}, "Received 'seed' as both"),
        ({"grid": {"seed": range(20_000)}}, "10000 cells at most. Received 20000"),
        ({"engine": "dask"}, "unknown engine 'dask'"),
    ],
)
def test_what_breaks_a_rule_is_refused_before_anything_is_written(tmp_path, arguments, rule):
    given = {"name": "steep", "out": tmp_path / "g", **arguments}
    with pytest.raises(InputError, match=rule):
        run_grid(**given)
    assert not (tmp_path / "g").exists() and Steep.runs == []
