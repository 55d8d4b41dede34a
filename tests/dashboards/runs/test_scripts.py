"""The Python that makes a result again."""

from __future__ import annotations

import pandas as pd
import pytest

from analyses import AnalysisResult, Check, run_analysis, run_grid
from analyses.results.provenance import Provenance, collect
from dashboards.runs.scripts import script, table_script
from interp import zoo
from tests.dashboards.scripts import run_script


@pytest.mark.parametrize("name", ["head-attribution", "activation-patching"])
def test_a_run_of_a_zoo_model_is_made_again(name):
    made = run_analysis(name, zoo.load("zoo:induction"), quick=True)
    table = next(iter(made.tables))
    pd.testing.assert_frame_equal(run_script(table_script(made, table)), made.tables[table])


def test_texts_and_numbers_of_any_kind_are_written_exactly(monkeypatch):
    parameters = {
        "text": "'''\"\n\\ {x} 🙂 \u202e", "far": float("inf"), "none": None, "yes": True,
        "nested": [{"a": [1e-30, -float("inf"), float("nan")]}, "x" * 300],
    }  # fmt: skip
    hostile = 'a"); import os; ("\n# '
    seen = []
    monkeypatch.setattr("analyses.run_analysis", lambda *given, **more: seen.append((given, more)))
    monkeypatch.setattr("interp.load_model", lambda name, **_: Opened(name))
    provenance = collect(None, parameters=parameters)
    known = {"model": hostile, "weight_processing": ["folded\nimport os"], "parameters": parameters}
    provenance = Provenance.model_construct(**{**dict(provenance), **known})
    checks = [Check("true", 0.0, 1.0)]
    result = AnalysisResult("look", "?", {}, {}, checks, provenance)
    exec(compile(script(result), "script", "exec"), {})
    ((name, model), given), = seen  # fmt: skip
    assert name == "look" and model.name == hostile
    assert repr(given) == repr(parameters)  # NaN is not equal to itself


def test_a_grid_is_made_again(tmp_path, monkeypatch):
    made = run_grid(
        "head-attribution", ["zoo:induction"], grid={"less_mean": [True, False]}, quick=True,
        out=tmp_path / "made", pictures=False,
    )  # fmt: skip
    seen = []
    monkeypatch.setattr("analyses.run_grid", lambda *given, **more: seen.append((given, more)))
    exec(compile(script(made), "script", "exec"), {})
    ((name,), arguments), = seen  # fmt: skip
    arguments["out"] = tmp_path / "again"
    again = run_grid(name, **arguments, pictures=False)
    assert again.provenance.grid == made.provenance.grid
    for table in made.tables:
        pd.testing.assert_frame_equal(again.tables[table], made.tables[table], check_exact=True)


class Opened:
    def __init__(self, name):
        self.name = name

    def eval(self):
        return self
