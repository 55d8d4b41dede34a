"""Every page, drawn by Streamlit without a browser."""

from __future__ import annotations

import json
import math
import re
import shutil
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import Field

pytest.importorskip("streamlit", reason="needs the extra 'dashboard'")
pytest.importorskip("plotly", reason="needs the extra 'dashboard'")
pytest.importorskip("seaborn", reason="needs the extra 'plots'")

from streamlit.util import calc_hash

from analyses import Analysis, AnalysisResult, Check, Parameters, registry, run_analysis
from dashboards.saved import save
from interp import HookedTransformer, InputError, zoo
from interp.charts import Chart
from interp.charts.tokens import visible
from tests.covering import every_nth
from tests.dashboards.screen import PROMPT, direct_logits, figures, html, result_tables, said, table

# --- the side ------------------------------------------------------------------------------------


def test_without_a_model_the_page_says_what_to_do(open_page, monkeypatch):
    monkeypatch.setattr(zoo, "entries", dict)
    app = open_page(models=())
    assert "There is no model to look at." in said(app.info)[0]
    assert not app.selectbox


def test_without_a_prompt_the_page_says_what_to_do(open_page):
    app = open_page()
    assert said(app.info) == ["Type a prompt at the side, and the model reads it."]
    assert not app.error


def test_the_side_says_where_a_model_comes_from_and_where_it_runs(open_page, words_model):
    app = open_page(prompt=PROMPT)
    told = said(app.sidebar.caption)
    assert told[0] == "A local directory."
    assert told[1].startswith("2 layers × 4 heads") and told[1].endswith("float32 on cpu")
    assert app.sidebar.selectbox[0].value == str(words_model)


def test_an_unknown_model_is_not_opened(open_page, words_model, monkeypatch):
    opened = []
    monkeypatch.setattr("dashboards.subject.load_model", opened.append)
    app = open_page(model="/etc", prompt=PROMPT)
    assert said(app.error)[0].startswith("unknown model '/etc'")
    assert str(words_model) in said(app.error)[0]
    assert app.sidebar.selectbox[0].value is None
    assert opened == []


def test_a_model_is_chosen_after_an_unknown_one(open_page, words_model):
    app = open_page(model="nope", prompt=PROMPT)
    app.sidebar.selectbox[0].select(str(words_model)).run()
    assert not app.error and not app.exception
    assert app.query_params["model"] == str(words_model)
    assert app.query_params["prompt"] == PROMPT


def test_a_model_that_cannot_be_opened_is_told(open_page, tmp_path):
    (tmp_path / "empty").mkdir()
    app = open_page(models=(tmp_path / "empty",))
    assert "config.json does not exist" in said(app.error)[0]


def test_a_prompt_that_is_too_long_is_told(open_page):
    app = open_page(prompt="the " * 40)
    assert "reads 16 tokens at most; these are 41" in said(app.error)[0]


def test_bos_is_switched(open_page, model):
    app = open_page(prompt=PROMPT)
    assert app.sidebar.toggle[0].value is True
    assert "BOS · 0" in html(app)
    app.sidebar.toggle[0].set_value(False).run()
    assert app.query_params["bos"] == "0"
    assert "BOS · 0" not in html(app)
    _, logits = direct_logits(model, prepend_bos=False)
    probability = logits[-1].double().softmax(-1).max().item()
    shown = table(app, "probability")
    assert shown["probability"][shown.index[0]] == pytest.approx(probability, rel=1e-5)


def test_bos_in_the_address_is_0_or_1(open_page):
    app = open_page(prompt=PROMPT, bos="maybe")
    assert said(app.warning) == ["Begin with BOS is 0 or 1 in the address, not 'maybe'."]
    assert app.query_params["bos"] == "1"


def test_a_model_without_a_tokenizer_reads_ids(open_page, mute_model):
    app = open_page(models=(mute_model,), prompt="3 14, 15")
    assert not app.error
    assert app.sidebar.text_area[0].label == "Token ids"
    model = HookedTransformer.load(mute_model)
    with torch.no_grad():
        expected = model(torch.tensor([[3, 14, 15]]))[0, -1].double().softmax(-1)
    shown = table(app, "probability")
    np.testing.assert_allclose(
        shown["probability"], expected[shown["token_id"].tolist()], rtol=1e-5
    )


@pytest.mark.parametrize(
    ("prompt", "message"),
    [("the cat", "type token ids, not 'the'"), ("31", "tokens must lie in 0 … 30")],
)
def test_bad_ids_are_told(open_page, mute_model, prompt, message):
    app = open_page(models=(mute_model,), prompt=prompt)
    assert message in said(app.error)[0]


def test_switching_models_keeps_what_was_typed(open_page, words_model, mute_model):
    app = open_page("attention", models=(words_model, mute_model), prompt="3 4", layer="1")
    app.sidebar.selectbox[0].select(str(mute_model)).run()
    assert not app.exception and not app.error
    assert app.query_params["prompt"] == "3 4"
    assert app.query_params["layer"] == "1"


# --- the prompt page -----------------------------------------------------------------------------


def test_predictions_are_those_of_the_model(open_page, model):
    app = open_page(prompt=PROMPT, position="3")
    _, logits = direct_logits(model)
    here = logits[3].double()
    best = here.topk(10)
    shown = table(app, "probability")
    assert shown["token_id"].tolist() == best.indices.tolist()
    np.testing.assert_allclose(shown["probability"], here.softmax(-1)[best.indices], rtol=1e-5)
    bars = figures(app)["prompt/figure/predictions"]["data"][0]
    np.testing.assert_allclose(bars["y"], shown["probability"])


def test_surprise_is_the_loss_of_each_token(open_page, model):
    app = open_page(prompt=PROMPT)
    tokens, logits = direct_logits(model)
    places = torch.arange(len(tokens) - 1)
    expected = -logits[:-1].double().log_softmax(-1)[places, tokens[1:]]
    shown = table(app, "surprise")
    np.testing.assert_allclose(shown["surprise"], expected, rtol=1e-5)
    assert shown["position"].tolist() == list(range(1, len(tokens)))
    assert f"{expected.mean():.3f} nats on average" in html(app)


def test_tokens_are_shown_one_by_one(open_page):
    app = open_page(prompt="the cat the $x$")
    chips = re.findall(r"<b>(.*?)</b><small>(.*?)</small>", html(app))
    assert chips == [
        ("&lt;bos&gt;", "BOS · 0 · id 0"),
        ("the", "1 · id 2"),
        ("cat", "2 · id 3"),
        ("the", "3 · id 2"),
        ("$x$", "4 · id 10"),
    ]
    bars = figures(app)["prompt/figure/surprise"]
    assert list(bars["data"][0]["x"]) == [0, 1, 2, 3]  # equal tokens stay apart


def test_the_last_position_is_followed_until_another_is_chosen(open_page):
    app = open_page(prompt="the cat")
    position = app.selectbox(key="prompt/position")
    assert position.value == 2
    app.sidebar.text_area[0].input("the cat sat on").run()
    assert app.selectbox(key="prompt/position").value == 4
    app.selectbox(key="prompt/position").select(1).run()
    app.sidebar.text_area[0].input("the cat sat").run()
    assert app.selectbox(key="prompt/position").value == 1
    assert app.query_params["position"] == "1"


def test_a_lone_token_has_no_surprise(open_page):
    app = open_page(prompt="the", bos="0")
    assert not app.error
    assert "nothing predicts it" in " ".join(said(app.caption))


def test_a_model_that_reads_both_ways_predicts_nothing(
    open_page, make_model, word_tokenizer, tmp_path
):
    both = make_model(word_tokenizer, d_vocab=13, attention_dir="bidirectional")
    app = open_page(models=(both.save(tmp_path / "both"),), prompt=PROMPT)
    assert "it predicts no next token" in said(app.error)[0]


# --- the attention page --------------------------------------------------------------------------


def test_patterns_are_those_of_the_model(open_page, model):
    app = open_page("attention", prompt=PROMPT, layer="1", head="2")
    tokens = model.to_tokens(PROMPT)
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
    expected = cache["pattern", 1][0].numpy()
    drawn = figures(app)
    np.testing.assert_allclose(drawn["attention/figure"]["data"][0]["z"], expected[2], atol=1e-6)
    mosaic = drawn["attention/mosaic/1/2/layer"]["data"][0]
    for head in range(4):
        at = mosaic["customdata"][..., 1] == head
        inside = at & ~np.isnan(mosaic["z"])
        # Head 0 shares its number with the empty cells between tiles.
        np.testing.assert_allclose(mosaic["z"][inside], expected[head].ravel(), atol=1e-6)
    strongest = table(app, "source_token")
    assert strongest["source"].tolist() == expected[2].argmax(-1).tolist()
    texts = [visible(text) for text in model.to_str_tokens(PROMPT)]
    assert strongest["source_token"].tolist() == [texts[i] for i in strongest["source"]]


def test_only_the_watched_layer_is_recorded(open_page, monkeypatch):
    asked = []
    record = HookedTransformer.record

    def spy(self, *args, names_filter=None, **kwargs):
        asked.append(names_filter)
        return record(self, *args, names_filter=names_filter, **kwargs)

    monkeypatch.setattr(HookedTransformer, "record", spy)
    app = open_page("attention", prompt=PROMPT, layer="1")
    assert asked == [["blocks.1.attn.hook_pattern"]]
    app.selectbox(key="attention/head").select(3).run()
    assert len(asked) == 1  # the same layer is not run again
    app.selectbox(key="attention/show").select("model").run()
    assert asked[1:] == [["blocks.0.attn.hook_pattern", "blocks.1.attn.hook_pattern"]]


def test_every_figure_has_its_text_alternative(open_page):
    app = open_page("attention", prompt=PROMPT)
    alternatives = [part.proto.alt for part in app.get("plotly_chart")]
    assert len(alternatives) == 2
    assert all(alternative and f">{alternative}<" in html(app) for alternative in alternatives)
    assert "destination tokens down, source tokens across" in alternatives[1]


def test_a_long_prompt_is_clipped_and_told(open_page, monkeypatch):
    monkeypatch.setattr("dashboards.views.attention.MAX_TOKENS", 4)
    app = open_page("attention", prompt=PROMPT)
    assert figures(app)["attention/figure"]["data"][0]["z"].shape == (4, 4)
    assert html(app).count("The first 4 of 9 tokens are drawn.") == 2


def test_one_token_has_one_cell(open_page):
    app = open_page("attention", prompt="the", bos="0")
    assert figures(app)["attention/figure"]["data"][0]["z"].tolist() == [[1.0]]
    assert "It has one token to look at." in html(app)


# --- the address ---------------------------------------------------------------------------------


def test_the_address_restores_the_view(open_page, words_model):
    query = {"model": str(words_model), "prompt": PROMPT, "bos": "0", "layer": "1", "head": "3",
             "show": "model"}  # fmt: skip
    app = open_page("attention", **query)
    assert app.query_params == query
    values = [app.selectbox(key=f"attention/{name}").value for name in ("layer", "head", "show")]
    assert values == [1, 3, "model"]
    again = open_page("attention", **app.query_params)
    assert again.query_params == query
    assert figures(again).keys() == figures(app).keys()


def test_choices_reach_the_address(open_page):
    app = open_page("attention", prompt=PROMPT)
    app.selectbox(key="attention/layer").select(1).run()
    assert app.query_params["layer"] == "1"
    assert app.query_params["head"] == "0"


def test_choices_survive_other_pages(open_page):
    app = open_page("attention", prompt=PROMPT, layer="1")
    app._page_hash = calc_hash("prompt")
    app.query_params.clear()  # as the browser does
    app.run()
    assert app.title[0].value == "Prompt"
    assert app.query_params["prompt"] == PROMPT and "layer" not in app.query_params
    app._page_hash = calc_hash("attention")
    app.query_params.clear()
    app.run()
    assert app.selectbox(key="attention/layer").value == 1
    assert app.query_params["layer"] == "1"


@pytest.mark.parametrize(
    ("page", "query", "message"),
    [
        ("attention", {"layer": "99"}, "There is no layer '99' here. Shown: 0."),
        ("attention", {"head": "L0H1"}, "There is no head 'L0H1' here. Shown: 0."),
        ("attention", {"show": "*"}, "There is no overview '*' here. Shown: Heads of this layer."),
        ("prompt", {"position": "-1"}, "There is no position '-1' here. Shown: 8: cat."),
        ("prompt", {"colour": "red"}, "This page does not know 'colour', which the address holds."),
    ],
)
def test_what_the_address_asks_for_in_vain_is_told(open_page, page, query, message):
    app = open_page(page, prompt=PROMPT, **query)
    assert said(app.warning) == [message]
    assert not app.error
    app.run()
    assert not app.warning  # told once


def test_an_unknown_page_is_the_first_page(open_page):
    assert open_page("no-such-page", prompt=PROMPT).title[0].value == "Prompt"


# --- the pages of analyses -----------------------------------------------------------------------


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
    monkeypatch.setattr("analyses.head_attribution.TOLERANCES", {torch.float32: -1.0})
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


@pytest.mark.parametrize(("query", "message"), BAD_SETTINGS)
def test_bad_settings_are_told_and_can_be_mended(open_page, query, message):
    app = open_page("head-attribution", prompt=PROMPT, **query)
    assert message in said(app.error)[0]
    assert not app.get("plotly_chart")
    if (query, message) not in every_nth(BAD_SETTINGS, 2, 0):  # mending takes a run
        return
    app.text_input(key="head-attribution/target").input("dog")
    app.text_input(key="head-attribution/wrong").input("")
    app.text_input(key="head-attribution/head").input("")
    app.number_input(key="head-attribution/position").set_value(1)
    submit(app)
    assert not app.error


def test_no_form_and_no_address_opens_a_path(open_page, words_model, monkeypatch):
    opened = []
    monkeypatch.setattr(
        "analyses.position_report.load_model", lambda name, **_: opened.append(name)
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


class SizeParams(Parameters):
    size: Literal["small", "large"] = Field("small", description="How large.")
    count: int = Field(2, description="How many.", gt=0, lt=9)
    twice: bool = Field(False, description="Whether to double.")
    weights: list[float] = Field([1.0], description="Numbers.")


class Sizes(Analysis[SizeParams]):
    name = "count-sizes"
    question = "How many *are* there?"
    needs_model = False
    runs = 0

    def run(self, model, params):
        type(self).runs += 1
        n = params.count * (2 if params.twice else 1)
        tables = {"sizes": pd.DataFrame({"n": [n], "total": [sum(params.weights)]})}
        return self.result(
            model, params, tables=tables, figures={}, checks=[Check("true", 0.0, 1.0)]
        )


@pytest.fixture
def sizes(monkeypatch):
    registry.list_analyses()
    monkeypatch.setitem(registry._registered, "count-sizes", Sizes)
    Sizes.runs = 0


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


class EdgeParams(Parameters):
    pass


class Edges(Analysis[EdgeParams]):
    name = "show-edges"
    question = "Who speaks to whom?"
    needs_model = False

    def run(self, model, params):
        table = pd.DataFrame(
            {
                "source": ["embed", "embed", "L0H0"],
                "target": ["L0H0", "logits", "logits"],
                "value": [1.0, -2.0, 0.5],
                "source_level": [0, 0, 1],
                "target_level": [1, 2, 2],
            }
        )
        graph = Chart(
            kind="graph", table="edges", title="Edges", alt="Three edges.", x="source", y="target",
            value="value", x_level="source_level", y_level="target_level", signed=True,
        )  # fmt: skip
        checks = [Check("true", 0.0, 1.0)]
        return self.result(
            model, params, tables={"edges": table}, figures={"graph": graph}, checks=checks
        )


def test_a_graph_is_drawn_on_a_page(open_page, monkeypatch):
    registry.list_analyses()
    monkeypatch.setitem(registry._registered, "show-edges", Edges)
    app = open_page("show-edges", models=())
    (drawn,) = figures(app).values()
    assert {each["text"] for each in drawn["layout"]["annotations"]} == {"embed", "L0H0", "logits"}
    assert "Three edges." in html(app)


def submit(app):
    """Press `Run`, the first button of the form."""
    next(button for button in app.button if button.label == "Run").click().run()
    assert not app.exception


# --- sharing -------------------------------------------------------------------------------------


def test_sessions_share_the_model_and_its_runs(open_page, monkeypatch, sizes):
    import dashboards.subject as subject

    opened, load = [], subject.load_model
    monkeypatch.setattr(subject, "load_model", lambda name: opened.append(name) or load(name))
    ran, forward = [], HookedTransformer.forward
    monkeypatch.setattr(
        HookedTransformer, "forward", lambda *a, **k: ran.append(1) or forward(*a, **k)
    )
    first = open_page(prompt=PROMPT)
    second = open_page(prompt=PROMPT)
    assert len(opened) == 1 and len(ran) == 1
    pd.testing.assert_frame_equal(table(first, "surprise"), table(second, "surprise"))
    open_page("count-sizes", prompt=PROMPT)
    open_page("count-sizes", prompt=PROMPT)
    assert Sizes.runs == 1


def test_runs_hold_the_models_lock(open_page, monkeypatch, words_model):
    from dashboards.subject import open_model

    held, forward = [], HookedTransformer.forward

    def spy(*args, **kwargs):
        held.append(open_model(str(words_model)).lock._is_owned())
        return forward(*args, **kwargs)

    monkeypatch.setattr(HookedTransformer, "forward", spy)
    for page in ("prompt", "attention", "head-attribution"):
        open_page(page, prompt=PROMPT)
    assert held and all(held)


# --- saved runs ----------------------------------------------------------------------------------


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


# --- the zoo -------------------------------------------------------------------------------------


@pytest.fixture
def induction():
    if "zoo:induction" not in zoo.entries():
        pytest.skip("zoo:induction is not in the zoo")
    return SimpleNamespace(
        model=zoo.load("zoo:induction"),
        prompt=zoo.defaults("zoo:induction", "head-attribution")["prompt"],
    )


def test_the_zoo_model_opens_with_its_prompt(open_page, induction):
    app = open_page(models=(), model="zoo:induction")
    assert app.sidebar.text_area[0].value == induction.prompt
    assert said(app.sidebar.caption)[0].startswith("From the zoo: ")
    _, logits = direct_logits(induction.model, induction.prompt)
    probability, token = logits[-1].double().softmax(-1).max(-1)
    shown = table(app, "probability").iloc[0]
    assert shown["token_id"] == token
    assert math.isclose(shown["probability"], probability, rel_tol=1e-5)


def test_the_zoo_model_is_attributed(open_page, induction):
    app = open_page("head-attribution", models=(), model="zoo:induction")
    assert not app.error
    expected = run_analysis("head-attribution", induction.model)
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
