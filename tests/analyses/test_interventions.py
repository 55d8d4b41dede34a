"""Analyses of a model with interventions on it."""

import pytest

pytest.importorskip("transformers", reason="needs the extra 'hf'")

from analyses import run_analysis
from interp import load_model
from interp.errors import InputError
from interp.interventions import Interventions, Mean, Place, Reference, Zero


@pytest.fixture(scope="module")
def model():
    return load_model("zoo:induction", device="cpu")


def test_interventions_act_in_every_run_of_an_analysis_and_are_in_its_provenance(model):
    prompt = "k T 4 w Z m 9 b k T 4 w"
    plan = Interventions(
        [
            Zero(Place("z", layers=0, heads=1)),
            Mean(Place("z", layers=1, heads=2), Reference(model.to_tokens(prompt)), pooled=True),
        ]
    )
    result = run_analysis("head-attribution", model, interventions=plan, prompt=prompt, target="Z")
    assert result.passed  # also that runs which watch other hooks agree
    parts = result.tables["at-position"].set_index("component")["attribution"]
    assert parts["L0H1"] == 0.0
    assert result.provenance.interventions == [each.describe() for each in plan]
    assert Interventions.from_json(result.provenance.interventions_json) == plan
    plain = run_analysis("head-attribution", model, prompt=prompt, target="Z")
    assert plain.provenance.interventions == []
    assert plain.tables["explained"]["value"][0] > result.tables["explained"]["value"][0] + 1


def test_interventions_are_refused_where_they_would_not_change_all_that_is_reported(model):
    with pytest.raises(InputError, match="weight-circuits takes no interventions"):
        run_analysis("weight-circuits", model, interventions=Zero(Place("z")))


def test_the_command_line_reads_them_from_a_file(tmp_path, capsys):
    from dashboards import cli

    file = tmp_path / "plan.json"
    file.write_text(Interventions([Zero(Place("z", layers=0, heads=1))]).to_json())
    command = ["run", "logit-lens", "--model", "zoo:induction", "--quick"]
    out = ["--out", str(tmp_path / "out"), "--interventions"]
    with pytest.raises(SystemExit) as done:
        cli.main([*command, *out, str(file)])
    assert done.value.code == 0
    assert "zero ablation of z" in (tmp_path / "out" / "report.html").read_text()
    with pytest.raises(SystemExit) as done:
        cli.main([*command, *out, str(tmp_path / "none.json")])
    assert done.value.code == 2
    assert "There is no file" in capsys.readouterr().err
