"""The page of saved runs, drawn by Streamlit without a browser."""

from __future__ import annotations

import json
import os
import shutil
from urllib.parse import parse_qsl

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("streamlit", reason="needs the extra 'dashboard'")
pytest.importorskip("plotly", reason="needs the extra 'dashboard'")
pytest.importorskip("seaborn", reason="needs the extra 'plots'")

from analyses import AnalysisResult, run_analysis, run_grid
from analyses.results import storage
from dashboards.options import read_options
from dashboards.runs.saved import save
from dashboards.runs.scripts import script
from interp import HookedTransformer, InputError
from interp.interventions import KnockOutHead
from tests.covering import every_nth
from tests.dashboards.screen import PROMPT, figures, html, said, table
from tests.dashboards.scripts import run_script
from tests.dashboards.small_analyses import Sizes

pytestmark = pytest.mark.usefixtures("undrawn")


def save_as(app, name):
    next(field for field in app.text_input if field.label == "Name of the run").input(name)
    next(button for button in app.button if button.label == "Save run").click().run()
    assert not app.exception


def test_without_runs_the_page_says_how_to_get_some(open_page):
    app = open_page("runs")
    assert "Nothing is saved here yet." in said(app.info)[0]


def test_a_result_is_saved_and_opened_again(open_page, runs):
    app = open_page("head-attribution", prompt=PROMPT, target="mat")
    before = [frame.value for frame in app.dataframe]
    save_as(app, "first")
    saved = AnalysisResult.load(runs / "first")
    assert saved.provenance.parameters["prompt"] == PROMPT
    assert saved.provenance.parameters["target"] == "mat"

    app = open_page("runs", run="first")
    assert app.header[0].value == "first"
    assert table(app, "run")["analysis"].tolist() == ["head-attribution"]
    for shown, frame in zip(app.dataframe[1:], before, strict=True):
        pd.testing.assert_frame_equal(shown.value, frame)
    assert len(app.get("plotly_chart")) == len(saved.figures)
    assert table(app, "outcome")["outcome"].tolist() == ["passed"] * len(saved.checks)
    assert saved.provenance.weight_hash in html(app)
    assert "Download report" in [button.label for button in app.get("download_button")]
    assert app.query_params["run"] == "first"


def test_a_grid_opens_as_any_run_does(open_page, runs):
    made = run_grid(
        "head-attribution", ["zoo:induction"], grid={"less_mean": [True, False]}, quick=True,
        out=runs / "grid", pictures=False,
    )  # fmt: skip
    app = open_page("runs", run="grid")
    assert not app.exception
    assert table(app, "run")["run"].tolist() == ["grid"]  # its cells are no runs of their own
    assert table(app, "less_mean")["less_mean"].tolist() == [True, False]
    assert len(app.get("plotly_chart")) == len(made.figures)
    assert "It is a grid of runs" in " ".join(said(app.caption))
    assert any("run_grid(" in code.value for code in app.code)


def test_a_run_needs_a_free_plain_name(open_page, runs, saved_run):
    (runs / "taken").mkdir(parents=True)
    result = AnalysisResult.load(saved_run)
    app = open_page("head-attribution", prompt=PROMPT)
    names = ("", "../up", "a/b", ".hidden", "taken", "a b")
    for name in names:
        with pytest.raises(InputError):
            save(result, runs, name)
        if name in every_nth(names, 3, 1):  # on the page too
            save_as(app, name)
            assert len(app.error) == 1, name
        assert [path.name for path in runs.iterdir()] == ["taken"], name
        assert not (runs.parent / "up").exists(), name


def test_the_name_that_is_offered_is_free(open_page, runs, words_model):
    (runs / "head-attribution-words").mkdir(parents=True)
    app = open_page("head-attribution", prompt=PROMPT)
    offered = next(field.value for field in app.text_input if field.label == "Name of the run")
    assert offered == "head-attribution-words-2"


def _truncate(run):
    (run / "result.json").write_text((run / "result.json").read_text()[:100])


def _lose_table(run):
    (run / "tables" / "predictions.parquet").unlink()


def _empty_table(run):
    (run / "tables" / "predictions.parquet").write_bytes(b"")


def _change_version(run):
    _edit(run, lambda document: document.update(schema_version=99))


def _change_chart(run):
    _edit(run, lambda document: document["figures"]["heads"].update(x="nowhere"))


def _edit(run, change):
    document = json.loads((run / "result.json").read_text())
    change(document)
    (run / "result.json").write_text(json.dumps(document))


def test_damaged_runs_are_told_and_the_others_open(open_page, runs, saved_run):
    shutil.copytree(saved_run, runs / "sound")
    kinds = (_truncate, _lose_table, _empty_table, _change_version, _change_chart)
    for damage in kinds:
        run = runs / "deep" / f"damaged_*run*{damage.__name__}"
        shutil.copytree(saved_run, run)
        damage(run)
    app = open_page("runs")
    told = sorted(message.split(" cannot be opened: ")[0] for message in said(app.error))
    assert told == sorted(f"deep/damaged_*run*{damage.__name__}" for damage in kinds)
    assert app.header[0].value == "sound"


def test_a_run_that_is_damaged_while_it_is_shown_is_told(open_page, runs, saved_run):
    shutil.copytree(saved_run, runs / "one")
    app = open_page("runs")
    assert app.header
    _lose_table(runs / "one")
    app.run()
    assert not app.exception
    assert "one cannot be opened" in said(app.error)[0] and not app.header


def test_an_unknown_run_is_told(open_page, runs, saved_run):
    shutil.copytree(saved_run, runs / "one")
    app = open_page("runs", run="two")
    assert said(app.warning) == ["There is no run 'two' here. Shown: one."]


# --- finding one ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other_runs(words_model, tmp_path_factory):
    """Results of other settings and another analysis, to be copied: by name."""
    folder = tmp_path_factory.mktemp("others")
    model = HookedTransformer.load(words_model)
    plan = [KnockOutHead("L1H2")]
    made = {
        "dog": run_analysis("head-attribution", model, prompt=PROMPT, target="dog"),
        "without": run_analysis("head-attribution", model, prompt=PROMPT, interventions=plan),
        "sizes": Sizes().run(None, Sizes.Params()),
    }
    for name, result in made.items():
        storage.save(result, folder / name, pictures=False)
    return {name: folder / name for name in made}


def listed(app):
    return table(app, "run")["run"].tolist()


def test_runs_are_filtered_and_sorted(open_page, runs, saved_run, other_runs):
    shutil.copytree(saved_run, runs / "mat")
    for name in ("dog", "sizes"):
        shutil.copytree(other_runs[name], runs / name)
    failed = runs / "mat failed"
    shutil.copytree(saved_run, failed)
    _edit(failed, lambda document: document["checks"][0].update(value=9.0))
    app = open_page("runs", run="sizes")
    assert sorted(listed(app)) == ["dog", "mat", "mat failed", "sizes"]
    app.text_input(key="runs/find").input("MAT head").run()
    assert sorted(listed(app)) == ["mat", "mat failed"]
    assert app.header[0].value == "sizes"  # what is open stays open
    app.toggle(key="runs/failed").set_value(True).run()
    assert listed(app) == ["mat failed"]
    assert app.query_params["find"] == "MAT head" and app.query_params["failed"] == "1"
    app.selectbox(key="runs/run").select("mat failed").run()
    assert "1 of 3 checks failed" in said(app.error)[0]
    app = open_page("runs", analysis="head-attribution", sort="name")
    assert listed(app) == ["dog", "mat", "mat failed"] and app.header[0].value == "dog"
    app.selectbox(key="runs/analysis").select("count-sizes").run()
    app.text_input(key="runs/find").input("nothing like it").run()
    assert not app.exception and app.header[0].value == "dog"
    assert "run" not in [column for frame in app.dataframe for column in frame.value.columns]
    app.query_params.clear()
    app.query_params.update({"run": "no such", "find": "nothing like it"})
    app.run()
    assert said(app.info) == ["No run passes the filter."] and not app.warning


def _lie_about_types(run):
    def change(document):
        for shape in document["tables"].values():
            shape["columns"] = dict.fromkeys(shape["columns"], "no such type")

    _edit(run, change)


def _climb(run):
    _edit(run, lambda document: document["tables"].update({"../../up": {"rows": 0, "columns": {}}}))


def _lead_out(run):
    (run / "tables").rename(run.parents[1] / "outside")
    (run / "tables").symlink_to(run.parents[1] / "outside")


def test_hostile_runs_are_told_in_a_line_each(open_page, runs, saved_run):
    shutil.copytree(saved_run, runs / "sound")
    kinds = (_lie_about_types, _climb, _lead_out)
    for damage in kinds:
        shutil.copytree(saved_run, runs / damage.__name__)
        damage(runs / damage.__name__)
    shutil.copytree(saved_run, os.fsdecode(os.fsencode(runs) + b"/bad\xff"))
    app = open_page("runs")
    told = said(app.error)
    names = ["bad\\udcff", *(damage.__name__ for damage in kinds)]
    assert sorted(line.split(" cannot be opened: ")[0] for line in told) == sorted(names)
    assert all("\n" not in line and len(line) < 400 for line in told)
    assert app.header[0].value == "sound"


HOSTILE = ["<script>alert(1)</script>", "x" * 200, "שלום\u202eevil", "🙂 $x$ **b**", "a:red[b]"]


def test_hostile_names_are_names(open_page, runs, saved_run):
    for name in HOSTILE:
        name = name.replace("/", "∕")  # which no directory's name can hold
        shutil.copytree(saved_run, runs / name)
    _edit(runs / HOSTILE[-1], lambda document: document["provenance"].update(model="<img src=x>"))
    app = open_page("runs", run=HOSTILE[-1])
    assert not app.error and len(listed(app)) == len(HOSTILE)
    assert "a\\:red\\[b\\]" in app.header[0].value
    assert "&lt;img src=x&gt;" in html(app) and "<img" not in html(app)


# --- two beside each other -----------------------------------------------------------------------


@pytest.fixture
def pair(runs, saved_run, other_runs):
    shutil.copytree(saved_run, runs / "mat")
    shutil.copytree(other_runs["dog"], runs / "dog")
    return AnalysisResult.load(runs / "mat"), AnalysisResult.load(runs / "dog")


def test_two_runs_stand_beside_each_other(open_page, pair):
    a, b = pair
    app = open_page("runs", run="mat", beside="dog")
    assert not app.error
    differing = table(app, "parameter")
    assert differing.to_numpy().tolist() == [["target", "none", "dog"]]
    checks = table(app, "outcome (A)")
    assert checks["check"].tolist() == [check.name for check in a.checks]
    assert checks["value (B)"].tolist() == [check.value for check in b.checks]
    heads = {}
    for result, name in ((a, "a"), (b, "b")):
        rows = result.tables["at-position"].query("kind == 'head'")
        heads[name] = rows.set_index(["layer", "head"])["attribution"].sort_index()
    drawn = figures(app)
    less = drawn["runs/beside/heads/difference"]
    expected = (heads["b"] - heads["a"]).to_numpy()
    np.testing.assert_allclose(np.ravel(less["data"][0]["z"]), expected, atol=1e-6)
    scale = less["layout"]["coloraxis"]
    assert scale["cmin"] == -scale["cmax"] == pytest.approx(-abs(expected).max())
    both = drawn["runs/beside/heads/on_one_scale"]
    panels = [trace for trace in both["data"] if "z" in trace]
    np.testing.assert_allclose(np.ravel(panels[0]["z"]), heads["a"], atol=1e-6)
    np.testing.assert_allclose(np.ravel(panels[1]["z"]), heads["b"], atol=1e-6)
    assert {trace["coloraxis"] for trace in panels} == {"coloraxis"}  # one scale
    joined = table(app, "attribution (B − A)").set_index("component")
    for i, name in enumerate(heads["a"].index):
        assert joined["attribution (B − A)"]["L{}H{}".format(*name)] == pytest.approx(expected[i])

    # The Python of a comparison makes its table.
    app.session_state["runs/beside/heads/difference/data"] = True
    app.run()
    codes = [part.value for part in app.code]
    code = next(code for code in codes if "difference(a, b, 'heads')" in code)
    found = run_script(code + "\n")
    found = found.sort_values(["layer", "head"])["difference"]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_runs_of_different_analyses_are_not_compared(open_page, runs, saved_run, other_runs):
    shutil.copytree(saved_run, runs / "heads")
    shutil.copytree(other_runs["sizes"], runs / "sizes")
    app = open_page("runs", run="heads", beside="sizes")
    assert "they cannot be compared" in said(app.info)[0]
    assert table(app, "of")["of"].tolist()[0] == "analysis"
    assert not app.get("plotly_chart")
    app.selectbox(key="runs/beside").select("none").run()
    assert app.header[0].value == "heads" and app.get("plotly_chart")


# --- running it again ----------------------------------------------------------------------------


def test_a_run_opens_the_form_of_its_analysis(open_page, runs, other_runs):
    shutil.copytree(other_runs["dog"], runs / "dog")
    app = open_page("runs")
    (link,) = [part.proto for part in app.get("link_button")]
    page, _, query = link.url.partition("?")
    asked = dict(parse_qsl(query))
    assert page == "head-attribution" and asked["target"] == "dog" and asked["prompt"] == PROMPT
    again = open_page(page, **asked)
    assert not again.warning and not again.error
    assert again.text_input(key="head-attribution/target").value == "dog"
    expected = AnalysisResult.load(runs / "dog").tables["at-position"]
    np.testing.assert_allclose(
        table(again, "attribution")["attribution"], expected["attribution"], rtol=1e-5, atol=1e-6
    )


def test_a_run_is_made_again_in_the_background(open_page, runs, other_runs, done_here):
    shutil.copytree(other_runs["without"], runs / "without")
    app = open_page("runs")
    assert "It was made with interventions" in " ".join(said(app.caption))
    next(b for b in app.button if b.label == "Run again in the background").click().run()
    done_here(runs)
    made, again = (
        AnalysisResult.load(runs / name) for name in ("without", "head-attribution-words")
    )
    assert again.provenance.parameters == made.provenance.parameters
    assert again.provenance.interventions == made.provenance.interventions
    pd.testing.assert_frame_equal(again.tables["at-position"], made.tables["at-position"])
    code = script(made, read_options().models[0])
    found = run_script(f"{code}table = result.tables['at-position']\n")
    pd.testing.assert_frame_equal(found, made.tables["at-position"])


def test_a_run_whose_model_is_not_offered_says_so(open_page, runs, other_runs, mute_model):
    shutil.copytree(other_runs["dog"], runs / "dog")
    app = open_page("runs", models=(mute_model,))
    assert "Its model, words, is not among those offered" in " ".join(said(app.caption))
    assert "Run again in the background" not in [button.label for button in app.button]
