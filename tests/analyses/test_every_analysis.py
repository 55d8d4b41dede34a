"""Every analysis on the models of the zoo: it runs as it is, or says why it does not fit.

The models that compare encodings (`zoo:copy-rotary`, …) are alike but for that: an analysis sees
one of them, one of position four. Of the others it sees all that it refuses, and of those that it
fits the one that fewest have seen. What trains toys of its own takes few steps, or is left to tests
of its own that train them. `INTERP_EXHAUSTIVE=1` runs all on all.
"""

from __future__ import annotations

import functools
import itertools
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

pytest.importorskip("seaborn", reason="needs the extra 'plots'")
pytest.importorskip("tokenizers", reason="needs the extra 'hf'")

from matplotlib.figure import Figure

from analyses import AnalysisResult, list_analyses, run_analysis
from analyses.positions.report_merging import ANALYSES as PARTS_BY_WORD
from interp import HookedTransformer, InputError, load_model, zoo
from interp.charts import Chart
from interp.charts.export import svg
from interp.charts.mpl import draw
from tests.analyses.undrawn import lay_out
from tests.covering import EXHAUSTIVE, slow

ANALYSES = {each.name: each for each in list_analyses()}
PARTS = set(PARTS_BY_WORD.values())
MODELS = list(zoo.entries())
WITH_MODEL = [name for name, each in ANALYSES.items() if each.needs_model]
COMPARED = [name for name in MODELS if name.startswith(("zoo:copy-", "zoo:count-"))]
OTHERS = [name for name in MODELS if name not in COMPARED]
ENCODINGS = sorted({name.split("-", 1)[1] for name in COMPARED})
OF_POSITION = 4  # models that an analysis of position is run on, of those that compare encodings


def _shared_out() -> dict[str, list[str]]:
    """Of the models that compare encodings, those that each analysis is run on.

    An analysis of position takes some, the others one, and the report none, whose own tests are on
    these models. It is always the next model's turn, of the next encoding and the other task, so
    that all are seen equally often.
    """
    tasks = sorted({name.split("-", 1)[0] for name in COMPARED})
    turns = itertools.cycle(
        f"{tasks[(i + shift) % len(tasks)]}-{encoding}"
        for shift in range(len(tasks))
        for i, encoding in enumerate(ENCODINGS)
    )
    names = sorted(WITH_MODEL, key=lambda name: name not in PARTS)
    if EXHAUSTIVE or not COMPARED:
        return dict.fromkeys(names, COMPARED)
    share = dict.fromkeys(PARTS, OF_POSITION) | {"position-report": 0}
    return {name: list(itertools.islice(turns, share.get(name, 1))) for name in names}


SHARED_OUT = _shared_out()


@functools.cache
def _model(name: str) -> tuple[HookedTransformer, dict[str, torch.Tensor]]:
    """A zoo model, and a copy of its weights."""
    model = load_model(name, device="cpu")
    return model, {key: value.clone() for key, value in model.state_dict().items()}


def _reason(name: str, model: str) -> str | None:
    return ANALYSES[name].supports(_model(model)[0])


def _runs() -> list[tuple[str, str]]:
    """Which analysis on which model; none where it needs none."""
    runs = [(name, "") for name in ANALYSES if name not in WITH_MODEL]
    seen = dict.fromkeys(OTHERS, 0)
    for name in WITH_MODEL:
        fits = [model for model in OTHERS if _reason(name, model) is None]
        chosen = fits if EXHAUSTIVE else sorted(fits, key=seen.__getitem__)[:1]
        for model in chosen:
            seen[model] += 1
        refused = [model for model in OTHERS if model not in fits]
        runs += [(name, model) for model in [*chosen, *refused, *SHARED_OUT[name]]]
    return runs


def _few_steps(name: str) -> dict[str, int]:
    """As few as its snapshots bear, where an analysis trains."""
    fields = ANALYSES[name].Params.model_fields
    if EXHAUSTIVE or name in WITH_MODEL or "steps" not in fields:
        return {}
    return {"steps": fields["n_snapshots"].default if "n_snapshots" in fields else 20}


RUNS = _runs()
# Seconds each, and run whole by tests of their own.
RUN_ELSEWHERE = {
    "modular-addition",
    "superposition-abs",
    "superposition-capacity",
    "superposition-correlated",
    "superposition-dynamics",
    "superposition-importance",
    "superposition-phase",
    "superposition-recovery",
}


def _cases() -> list[Any]:
    return [pytest.param(*run, marks=[slow] * _is_long(*run)) for run in RUNS]


def _is_long(name: str, model: str) -> bool:
    return name in RUN_ELSEWHERE and (not model or _reason(name, model) is None)


@pytest.fixture
def figures_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A figure is drawn, and written as SVG, where two of its kind of columns meet the first time.

    Of the others panels and places are found, as drawing them would begin. As PNG none is written.
    """
    monkeypatch.setattr("interp.charts.mpl.draw", _drawn_once)
    monkeypatch.setattr("interp.charts.export.svg", _written_if_drawn)
    monkeypatch.setattr("interp.charts.export.png", lambda figure, chart: b"PNG")


@pytest.fixture(autouse=True)
def parts_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report is made of the results that its analyses gave here: the same run, not run twice."""
    monkeypatch.setattr("analyses.positions.report.run_analysis", _run_once)


_results: dict[tuple[str, str], AnalysisResult] = {}


def _run_once(name: str, model: HookedTransformer, quick: bool, **settings: Any) -> AnalysisResult:
    found = _results.get((name, str(model.cfg.model_name))) if quick and not settings else None
    return run_analysis(name, model, quick, **settings) if found is None else found


_drawn: set[tuple[str, ...]] = set()  # of a kind of figure, two columns that one was drawn with


def _drawn_once(chart: Chart, table: pd.DataFrame) -> Any:
    columns = sorted(f"{key} {_sort(table[c].dtype)}" for key, c in chart.columns.items())
    pairs = {(chart.kind, *pair) for pair in itertools.combinations(columns, 2)}
    if EXHAUSTIVE or not pairs <= _drawn:
        _drawn.update(pairs)
        return draw(chart, table)
    return lay_out(chart, table)


def _sort(dtype: Any) -> str:
    if not pd.api.types.is_numeric_dtype(dtype):
        return "words"
    return "whole numbers" if pd.api.types.is_integer_dtype(dtype) else "numbers"


def _written_if_drawn(figure: Any, chart: Chart) -> str:
    return svg(figure, chart) if isinstance(figure, Figure) else "<svg></svg>"


@pytest.mark.usefixtures("figures_once")
@pytest.mark.parametrize(("name", "model_name"), _cases())
def test_runs_as_it_is_or_says_why_not(name: str, model_name: str, tmp_path: Path) -> None:
    """With no parameters: checks pass, figures draw, what is saved is what is loaded."""
    if not model_name:
        _in_order(name, run_analysis(name, quick=True, **_few_steps(name)), tmp_path)
        return
    model, weights = _model(model_name)
    reason = _reason(name, model_name)
    if reason is not None:
        assert reason == reason.strip() != ""
        with pytest.raises(InputError, match="does not fit") as refusal:
            run_analysis(name, model, quick=True)
        assert reason in str(refusal.value)
        return
    result = run_analysis(name, model, quick=True)
    if name in PARTS:
        _results[name, model_name] = result
    print(f"{name} on {model_name}: {result.provenance.seconds:.1f} s")
    _in_order(name, result, tmp_path)
    assert result.provenance.model == model_name
    # Nothing of the model has changed, and nothing is left on it.
    assert model.watched_hooks() == (set(), set())
    for key, value in model.state_dict().items():
        assert torch.equal(value, weights[key]), key
    assert all(parameter.grad is None for parameter in model.parameters())


def test_every_model_is_seen_by_several_analyses() -> None:
    for model in MODELS:
        fit = [name for name, each in RUNS if each == model and _reason(name, model) is None]
        assert len(fit) >= 2, model
    for name in PARTS if COMPARED else ():
        seen = [model.split("-", 1) for model in SHARED_OUT[name]]
        assert {task for task, _ in seen} == {"zoo:copy", "zoo:count"}, name
        assert len({encoding for _, encoding in seen}) >= OF_POSITION, name
    by_position = {model for name in PARTS for model in SHARED_OUT[name]}
    assert {model.split("-", 1)[1] for model in by_position} == set(ENCODINGS)


def test_every_analysis_fits_some_model() -> None:
    """Else the test above would pass on one that refuses everything."""
    for name in WITH_MODEL:
        assert any(_reason(name, model) is None for each, model in RUNS if each == name), name


def test_defaults_of_the_zoo_are_parameters() -> None:
    """A misspelt analysis would go unnoticed until somebody asks for it."""
    for entry in zoo.entries().values():
        for name, settings in entry.defaults.items():
            assert name in ANALYSES, f"{entry.name}: {name}"
            for key in settings:
                assert key in ANALYSES[name].Params.model_fields, f"{entry.name}: {name}.{key}"


def _in_order(name: str, result: AnalysisResult, folder: Path) -> None:
    assert result.name == name
    for check in result.checks:
        assert check.passed, check
    assert result.caveat.strip(), "numbers mislead: how?"
    assert any(len(table) for table in result.tables.values())  # one may have found nothing
    saved = result.save(folder / "result")  # with every figure
    for figure in result.figures:
        assert (saved / "figures" / f"{figure}.svg").stat().st_size > 0
    loaded = AnalysisResult.load(saved)
    assert loaded.figures == result.figures
    assert loaded.checks == result.checks
    assert list(loaded.tables) == list(result.tables)
    for key, table in result.tables.items():
        pd.testing.assert_frame_equal(loaded.tables[key], table, check_dtype=False)
    _json(loaded.provenance.parameters)


def _json(value: Any) -> None:
    """Parameters are recorded, and can be given again."""
    assert json.loads(json.dumps(value)) == value
