import sys
from types import SimpleNamespace

import pandas as pd
import pytest
from pydantic import Field, model_validator

import analyses
from analyses import (
    Analysis,
    Check,
    Parameters,
    get_analysis,
    list_analyses,
    register,
    registry,
    run_analysis,
)
from interp.errors import InputError


class CountParams(Parameters):
    n: int = Field(100, description="How far to count.", ge=1, le=1000)
    step: int = Field(1, description="By how much.", ge=1)
    seed: int = Field(0, description="Seed.")

    @model_validator(mode="after")
    def _step_fits(self):
        if self.step > self.n:
            raise ValueError(f"step {self.step} is larger than n {self.n}")
        return self


class Count(Analysis[CountParams]):
    name = "count"
    question = "How far can it count?"
    needs_model = False

    def run(self, model, params):
        table = pd.DataFrame({"i": range(0, params.n, params.step)})
        checks = [Check("counts", abs(len(table) - params.n // params.step), 1)]
        return self.result(model, params, tables={"count": table}, figures={}, checks=checks)

    def quick(self, params):
        return params.model_copy(update={"n": 10, "step": 2})


class Inspect(Count):
    name = "inspect"
    needs_model = True

    @classmethod
    def supports(cls, model):
        return None if model.cfg.n_layers > 1 else "it needs two layers"


def fake_model(name="tiny", n_layers=2):
    return SimpleNamespace(
        cfg=SimpleNamespace(model_name=name, n_layers=n_layers, dtype="torch.float32", device="cpu")
    )


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """A registry with two analyses, and a stand-in for hashing weights."""
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(registry, "_import_all", lambda: None)
    weights = SimpleNamespace(weight_hash=lambda model: "0" * 64)
    monkeypatch.setitem(sys.modules, "interp.weights", weights)
    register(Inspect)
    register(Count)


def test_analyses_are_listed_by_name():
    assert list_analyses() == [Count, Inspect]
    assert get_analysis("count") is Count
    assert Inspect.Params is CountParams


def test_unknown_analysis_names_the_closest():
    with pytest.raises(InputError, match=r"unknown analysis 'cuont'; did you mean 'count'\?"):
        run_analysis("cuont")


def test_run_fills_the_record():
    result = run_analysis("count", n=20, seed=3)
    assert (result.name, result.question) == ("count", Count.question)
    assert len(result.tables["count"]) == 20
    assert result.provenance.parameters == {"n": 20, "step": 1, "seed": 3}
    assert result.provenance.seed == 3
    assert 0 < result.provenance.seconds < 60


def test_quick_gives_way_to_what_was_asked():
    assert run_analysis("count", quick=True).provenance.parameters["n"] == 10
    parameters = run_analysis("count", quick=True, n=50).provenance.parameters
    assert (parameters["n"], parameters["step"]) == (50, 2)


def test_zoo_defaults_lie_under_the_users(monkeypatch):
    import interp

    zoo = SimpleNamespace(defaults=lambda model, name: {"n": 7, "step": 2})
    monkeypatch.setattr(interp, "zoo", zoo, raising=False)
    monkeypatch.setitem(sys.modules, "interp.zoo", zoo)
    model = fake_model("zoo:tiny")
    assert run_analysis("inspect", model).provenance.parameters["n"] == 7
    parameters = run_analysis("inspect", model, n=9, quick=True).provenance.parameters
    assert (parameters["n"], parameters["step"]) == (9, 2)
    assert run_analysis("inspect", fake_model("gpt2")).provenance.parameters["n"] == 100


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n": 0}, r"count: parameter 'n': Input should be greater than or equal to 1, got 0"),
        ({"n": "many"}, r"parameter 'n': .*integer.*, got 'many'"),
        ({"m": 3}, r"unknown parameter of count 'm'.*\(known: n, seed, step\)"),
        ({"n": 2, "step": 3}, "count: step 3 is larger than n 2"),
    ],
)
def test_bad_parameters_are_explained(params, message):
    with pytest.raises(InputError, match=message):
        run_analysis("count", **params)


@pytest.mark.parametrize(
    ("name", "model", "message"),
    [
        ("inspect", None, "inspect needs a model"),
        ("inspect", fake_model(n_layers=1), "does not fit 'tiny': it needs two layers"),
        ("count", fake_model(), "count takes no model"),
    ],
)
def test_models_must_fit(name, model, message):
    with pytest.raises(InputError, match=message):
        run_analysis(name, model)


def test_a_name_is_taken_once():
    def run(self, model, params):
        raise NotImplementedError

    twin = type("Twin", (Count,), {"run": run})
    with pytest.raises(TypeError, match=r"'count' is registered twice: .*Count, .*Twin"):
        register(twin)
    register(Count)  # the same class again, as after a reload


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"name": "Count_Up"}, "must be kebab-case, got 'Count_Up'"),
        ({"name": "up", "question": " "}, "'question' must be one line"),
        ({"name": "up", "question": "a\nb"}, "'question' must be one line"),
    ],
)
def test_ill_declared_classes_are_refused(attributes, message):
    with pytest.raises(TypeError, match=message):
        register(type("Up", (Count,), attributes))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n": (int, 3)}, "parameter 'n' needs a description"),
        ({"n": (int, Field(description="N."))}, "parameter 'n' needs a default"),
        ({"model": (str, Field("", description="M."))}, "may not be named 'model'"),
    ],
)
def test_ill_declared_parameters_are_refused(fields, message):
    from pydantic import create_model

    params = create_model("Params", __base__=Parameters, **fields)
    with pytest.raises(TypeError, match=message):
        register(type("Up", (Count,), {"name": "up", "Params": params}))


def test_an_analysis_without_parameters_class_is_refused():
    bare = type("Bare", (Analysis,), {"name": "bare", "question": "?", "run": lambda *_: None})
    with pytest.raises(TypeError, match="derive it from Analysis"):
        register(bare)


def test_a_new_file_is_found_and_a_broken_one_is_not_hidden(tmp_path, monkeypatch):
    monkeypatch.undo()
    registry._import_all()
    monkeypatch.setattr(analyses, "__path__", [*analyses.__path__, str(tmp_path)])
    (tmp_path / "brand_new.py").write_text("raise RuntimeError('broken file')")
    with pytest.raises(RuntimeError, match="broken file"):
        registry._import_all.__wrapped__()
