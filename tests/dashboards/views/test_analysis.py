"""The page of an analysis, drawn by Streamlit without a browser."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

pytest.importorskip("streamlit", reason="needs the extra 'dashboard'")
pytest.importorskip("plotly", reason="needs the extra 'dashboard'")
pytest.importorskip("seaborn", reason="needs the extra 'plots'")

from analyses import AnalysisResult, registry, run_analysis
from dashboards import edits, jobs
from interp import HookedTransformer, zoo
from tests.dashboards.screen import PROMPT, figures, html, result_tables, said, table
from tests.dashboards.scripts import run_script
from tests.dashboards.small_analyses import Edges, Lengthy


def submit(app):
    """Press `Run`, the first button of the form."""
    next(button for button in app.button if button.label == "Run").click().run()
    assert not app.exception


def test_head_attribution_is_that_of_the_analysis(open_page, model):
    app = open_page("head-attribution", prompt=PROMPT, target="mat", wrong="dog", head="L1H2")
    expected = run_analysis(
        "head-attribution", model, prompt=PROMPT, target="mat", wrong="dog", head="L1H2"
    )
    for name, shown in result_tables(app, expected).items():
        frame = expected.tables[name]
        numbers = frame.select_dtypes("number").columns
        np.testing.assert_allclose(shown[numbers], frame[numbers], rtol=1e-5, atol=1e-6)
    assert len(app.get("plotly_chart")) == len(expected.figures)
    for chart in expected.figures.values():
        assert chart.alt in [part.proto.alt for part in app.get("plotly_chart")]
    heads = figures(app)["head-attribution/figure/heads"]["data"][0]["z"]
    ranked = expected.tables["at-position"].query("kind == 'head'").sort_values(["layer", "head"])
    np.testing.assert_allclose(np.ravel(heads), ranked["attribution"], rtol=1e-5, atol=1e-6)


def test_checks_are_on_screen(open_page):
    app = open_page("head-attribution", prompt=PROMPT)
    checks = table(app, "outcome")
    assert set(checks["outcome"]) == {"passed"}
    assert "parts-sum-to-logit" in checks["check"].tolist()
    assert (checks["value"].astype(float) <= checks["tolerance"].astype(float)).all()
    assert said(app.success) == [f"All {len(checks)} checks passed."]


def test_failed_checks_are_on_screen(open_page, monkeypatch):
    monkeypatch.setattr("analyses.attribution.head_attribution.TOLERANCES", {torch.float32: -1.0})
    app = open_page("head-attribution", prompt=PROMPT)
    assert "checks failed: parts-sum-to-logit" in said(app.error)[0]
    assert set(table(app, "outcome")["outcome"]) == {"FAILED"}


def test_the_form_runs_what_was_typed_and_the_address_says_it(open_page):
    app = open_page("head-attribution", prompt=PROMPT)
    app.text_input(key="head-attribution/target").input("dog")
    app.number_input(key="head-attribution/position").set_value(2)
    submit(app)
    assert app.query_params["target"] == "dog" and app.query_params["position"] == "2"
    assert "logit of “dog”, at position 2 (“cat”)" in html(app)
    app.text_input(key="head-attribution/target").input("")
    submit(app)
    assert "target" not in app.query_params


BAD_SETTINGS = [
    ({"target": "the cat"}, "'the cat' must be a single token."),
    ({"position": "99"}, "position must lie in -9 … 8. Received 99."),
    ({"head": "best"}, "parameter 'head': String should match pattern"),
    ({"wrong": "two words"}, "'two words' must be a single token."),
    ({"position": "x"}, "parameter 'position': Input should be a valid integer"),
    ({"head": "L9H9"}, "head must lie in L0H0 … L1H3. Received L9H9."),
    ({"top_heads": "0"}, "parameter 'top_heads': Input should be greater than or equal to 1"),
]


def test_bad_settings_are_told_and_can_be_mended(open_page):
    app = open_page("head-attribution", prompt=PROMPT)
    for query, message in BAD_SETTINGS:
        app.query_params.clear()
        app.query_params.update({"prompt": PROMPT, **query})
        app.run()
        assert not app.exception
        assert message in said(app.error)[0]
        assert not app.get("plotly_chart")
    app.text_input(key="head-attribution/target").input("dog")
    app.text_input(key="head-attribution/wrong").input("")
    app.text_input(key="head-attribution/head").input("")
    app.number_input(key="head-attribution/position").set_value(1)
    app.number_input(key="head-attribution/top_heads").set_value(1)
    submit(app)
    assert not app.error


def test_no_form_and_no_address_opens_a_path(open_page, words_model, monkeypatch):
    opened = []
    monkeypatch.setattr(
        "analyses.positions.report.load_model", lambda name, **_: opened.append(name)
    )
    app = open_page("position-report", prompt=PROMPT, beside=json.dumps([str(words_model)]))
    assert said(app.error)[0].startswith("unknown model for 'beside' on a page (the zoo's only)")
    app.text_area(key="position-report/beside").input('["/etc"]')
    submit(app)
    assert "'/etc'" in said(app.error)[0]
    assert opened == []


def test_ids_are_typed_where_there_is_no_tokenizer(open_page, mute_model):
    app = open_page("head-attribution", models=(mute_model,), prompt="3 4 5", target="7", wrong="8")
    assert not app.error
    assert "logit of “7” less that of “8”" in html(app)


def test_a_new_analysis_gets_a_page_and_a_form(open_page, sizes):
    app = open_page("count-sizes", models=())
    assert app.title[0].value == "Count sizes"
    assert said(app.caption)[0] == "How many *are* there?"
    assert table(app, "total")["n"].tolist() == [2]
    app.selectbox(key="count-sizes/size").select("large")
    app.selectbox(key="count-sizes/twice").select("true")
    count = app.number_input(key="count-sizes/count")
    assert (count.min, count.max) == (1, 8)
    count.set_value(5)
    app.text_input(key="count-sizes/weights").input("[1.5, 2]")
    submit(app)
    shown = table(app, "total")
    assert (shown["n"].tolist(), shown["total"].tolist()) == ([10], [3.5])
    assert {name: app.query_params[name] for name in ("size", "twice", "count", "weights")} == {
        "size": "large", "twice": "true", "count": "5", "weights": "[1.5, 2]",
    }  # fmt: skip
    app.query_params["seed"] = "9" * 30  # more than a browser counts
    app.run()
    assert not app.exception and app.number_input(key="count-sizes/seed").value == 0
    assert table(app, "total")["n"].tolist() == [10]
    app.text_input(key="count-sizes/weights").input("[1.5")
    submit(app)
    assert "parameter 'weights' takes JSON" in said(app.error)[0]


def test_lists_of_texts_are_typed_in_a_field_of_several_lines(open_page):
    app = open_page("activation-patching", prompt=PROMPT)
    assert "give the clean prompts" in said(app.error)[0]
    clean, corrupted = (
        app.text_area(key=f"activation-patching/{name}") for name in ("clean", "corrupted")
    )
    assert (clean.value, corrupted.value) == ("", "")
    clean.input('["the cat sat on", "the dog sat on"]')
    corrupted.input('["the dog sat on", "the cat sat on"]')
    app.text_area(key="activation-patching/right").input('["cat", "dog"]')
    app.text_area(key="activation-patching/wrong").input('["dog", "cat"]')
    app.text_input(key="activation-patching/sites").input('["z"]')
    submit(app)
    assert not app.error
    assert table(app, "clean_value")["right"].tolist() == ["“cat”", "“dog”"]
    assert set(table(app, "rank")["site"]) == {"z"}
    app.text_area(key="activation-patching/clean").input("the cat sat on")
    submit(app)
    assert said(app.error)[0].startswith("there must be one corrupted prompt for each clean one")


def test_bos_of_pairs_is_chosen_in_their_form(open_page, model):
    """The switch at the side is of the prompt at the side, which pairs do not read."""
    app = open_page("activation-patching", prompt=PROMPT, bos="0")
    prompts = {"clean": "the cat sat on", "corrupted": "the dog sat on"}
    for name, text in prompts.items():
        app.text_area(key=f"activation-patching/{name}").input(text)
    app.text_area(key="activation-patching/right").input("cat")
    app.text_area(key="activation-patching/wrong").input("dog")
    app.text_input(key="activation-patching/sites").input('["z"]')
    bos = app.selectbox(key="activation-patching/prepend_bos")
    assert (bos.value, bos.options) == ("", ["true", "false", ""])
    submit(app)
    assert not app.error
    began = [table(app, "clean_value")["clean"][0]]
    app.selectbox(key="activation-patching/prepend_bos").set_value("false")
    submit(app)
    began.append(table(app, "clean_value")["clean"][0])
    assert began[0].removeprefix("<bos> ") == began[1] != began[0]
    assert app.query_params["prepend_bos"] == "false"
    # Of an analysis of the prompt at the side, the switch there is the only one.
    app = open_page("head-attribution", prompt=PROMPT)
    assert not [each for each in app.selectbox if each.key == "head-attribution/prepend_bos"]


def test_a_graph_is_drawn_on_a_page(open_page, monkeypatch):
    registry.list_analyses()
    monkeypatch.setitem(registry._registered, "show-edges", Edges)
    app = open_page("show-edges", models=())
    (drawn,) = figures(app).values()
    assert {each["text"] for each in drawn["layout"]["annotations"]} == {"embed", "L0H0", "logits"}
    assert "Three edges." in html(app)


def test_the_zoo_model_is_attributed(open_page):
    app = open_page("head-attribution", models=(), model="zoo:induction")
    assert not app.error
    expected = run_analysis("head-attribution", zoo.load("zoo:induction"))
    shown = result_tables(app, expected)["at-position"]
    expected = expected.tables["at-position"]
    assert shown["component"].tolist() == expected["component"].tolist()
    np.testing.assert_allclose(shown["attribution"], expected["attribution"], rtol=1e-5, atol=1e-6)


def test_the_zoo_models_pairs_are_patched(open_page):
    app = open_page("activation-patching", models=(), model="zoo:induction")
    assert not app.error
    shown = app.text_area(key="activation-patching/clean").value
    pairs = zoo.defaults("zoo:induction", "activation-patching")
    assert json.loads(shown) == pairs["clean"]
    assert len(table(app, "clean_value")) == len(pairs["clean"])


# --- long runs -----------------------------------------------------------------------------------


def press(app, label):
    next(button for button in app.button if button.label == label).click().run()
    assert not app.exception


def labels(app):
    return [button.label for button in app.button]


def test_what_takes_long_runs_in_the_background_alone(open_page, sizes, done_here, runs):
    app = open_page("count-slowly", models=(), count="5")
    assert "Run" not in labels(app) and Lengthy.runs == 0
    assert "it runs in a process of its own" in said(app.info)[0]
    assert not app.dataframe
    press(app, "Run in the background")
    job = jobs.find(runs)[0]
    assert (job.request.analysis, job.request.model, job.request.name) == (
        "count-slowly", None, "count-slowly",
    )  # fmt: skip
    assert job.request.settings["count"] == 5 and Lengthy.runs == 0
    assert "count-slowly: waiting for its turn" in said(app.markdown)[-1].replace("*", "")
    done_here(runs)
    app.run()
    assert Lengthy.runs == 1
    assert table(app, "total")["n"].tolist() == [5]  # the result of these settings
    assert "The saved run count-slowly, of these settings." in said(app.caption)
    app.number_input(key="count-slowly/count").set_value(3)
    press(app, "Run in the background")
    assert not app.dataframe  # that of other settings is not shown for theirs
    assert "Cancel" in labels(app)
    press(app, "Cancel")
    assert jobs.find(runs)[0].state == "cancelled" and "Cancel" not in labels(app)
    assert AnalysisResult.load(runs / "count-slowly").tables["sizes"]["n"].tolist() == [5]


def test_quick_settings_of_what_takes_long_run_in_the_page(open_page, sizes):
    app = open_page("count-slowly", models=())
    app.toggle(key="count-slowly/quick").set_value(True).run()
    assert app.query_params["quick"] == "1"
    assert app.number_input(key="count-slowly/count").value == 1
    assert table(app, "total")["n"].tolist() == [1]
    assert labels(app)[:2] == ["Run", "Run in the background"]
    app.toggle(key="count-slowly/quick").set_value(False).run()
    assert app.number_input(key="count-slowly/count").value == 2 and not app.dataframe


def test_the_background_gets_what_the_page_shows(open_page, words_model, done_here, runs):
    app = open_page("head-attribution", prompt=PROMPT, target="dog")
    shown = table(app, "attribution")
    press(app, "Run in the background")
    request = done_here(runs).request
    assert request.model == str(words_model)
    assert request.settings["prompt"] == PROMPT and request.settings["target"] == "dog"
    saved = AnalysisResult.load(runs / request.name)
    again = open_page("head-attribution", prompt=PROMPT, target="dog")
    assert "head-attribution-words" in said(again.markdown)[0]
    np.testing.assert_allclose(
        saved.tables["at-position"]["attribution"], shown["attribution"], rtol=1e-5, atol=1e-6
    )


def test_a_refused_job_is_told(open_page, sizes, monkeypatch, done_here):
    monkeypatch.setattr("dashboards.jobs.launch.MOST_UNFINISHED", 0)
    app = open_page("count-sizes", models=())
    press(app, "Run in the background")
    assert "0 jobs at most may work or wait" in said(app.error)[0]


def test_a_run_in_a_page_is_stopped_after_its_time(open_page, monkeypatch):
    monkeypatch.setattr("dashboards.runs.running.SECONDS", -1.0)
    ran, forward = [], HookedTransformer.forward
    monkeypatch.setattr(
        HookedTransformer, "forward", lambda *a, **k: ran.append(1) or forward(*a, **k)
    )
    app = open_page("head-attribution", prompt=PROMPT)
    assert "took more than the -1 seconds that a page may take" in said(app.warning)[0]
    assert not ran and not app.dataframe
    monkeypatch.setattr("dashboards.runs.running.SECONDS", 30.0)
    app.run()
    assert app.warning and not ran  # not tried again
    app.text_input(key="head-attribution/target").input("dog")
    submit(app)
    assert ran and not app.warning


def test_a_training_in_a_page_is_stopped_after_its_time(open_page, monkeypatch):
    monkeypatch.setattr("dashboards.runs.running.SECONDS", 0.2)
    app = open_page("superposition-intro", models=(), quick="1", steps="100000", compiled="false")
    assert "superposition-intro took more than" in said(app.warning)[0]


# --- interventions -------------------------------------------------------------------------------


def test_an_analysis_runs_with_the_interventions_at_the_side(open_page, model):
    app = open_page("head-attribution", prompt=PROMPT, edits="zero:L1H2", edited="1")
    assert "zero:L1H2" in said(app.info)[0]
    plan = edits.plan("zero:L1H2", model, tuple(model.to_tokens(PROMPT)[0].tolist()))
    expected = run_analysis("head-attribution", model, prompt=PROMPT, interventions=plan)
    shown = result_tables(app, expected)["at-position"]
    np.testing.assert_allclose(
        shown["attribution"], expected.tables["at-position"]["attribution"], rtol=1e-5, atol=1e-6
    )
    one = shown.set_index("component")["attribution"]
    assert one["L1H2"] == 0 and one["L1H1"] != 0


def test_an_analysis_that_takes_no_interventions_says_so(open_page):
    app = open_page("weight-circuits", prompt=PROMPT, edits="zero:L1H2", edited="1", quick="1")
    assert "This analysis takes no interventions" in said(app.warning)[0]
    assert table(app, "outcome") is not None


# --- the Python ----------------------------------------------------------------------------------


def test_the_python_makes_the_tables_again(open_page):
    app = open_page("head-attribution", prompt=PROMPT, target="mat", edits="zero:L1H2", edited="1")
    shown = table(app, "attribution")
    code = next(part.value for part in app.code if "run_analysis" in part.value)
    found = run_script(f"{code}\ntable = result.tables['at-position']\n")
    np.testing.assert_allclose(found["attribution"], shown["attribution"], rtol=1e-5, atol=1e-6)


def test_a_job_that_failed_says_why_and_what_it_printed(
    open_page, sizes, done_here, monkeypatch, runs
):
    app = open_page("count-slowly", models=())
    press(app, "Run in the background")
    (jobs.find(runs)[0].folder / "log.txt").write_text("<b>one</b>\n**two**\n")

    def fail(self, model, params):
        raise RuntimeError("*no* <b>way</b>")

    monkeypatch.setattr(Lengthy, "run", fail)
    done_here(runs)
    app.run()
    assert not app.exception
    told = next(part for part in app.markdown if "failed" in part.value)
    assert said([told])[0].endswith("failed, 0 s: RuntimeError: *no* <b>way</b>")
    assert "\\<b\\>" in told.value and "\\*no" in told.value
    assert "<b>one</b>\n**two**" in [part.value for part in app.code]
    assert not app.dataframe and "Open" not in labels(app)
