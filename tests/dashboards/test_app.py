"""Every page, drawn by Streamlit without a browser."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip("streamlit", reason="needs the extra 'dashboard'")
pytest.importorskip("plotly", reason="needs the extra 'dashboard'")
pytest.importorskip("seaborn", reason="needs the extra 'plots'")

from streamlit.util import calc_hash

from interp import HookedTransformer, zoo
from tests.dashboards.screen import PROMPT, direct_logits, figures, html, said, table

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
    monkeypatch.setattr("dashboards.page.subject.load_model", opened.append)
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
    [
        ("the cat", "type token ids, not 'the'"),
        ("31", "tokens must lie in 0 … 30"),
        ("9" * 20, "12 digits at most. Received 20"),
        ("9" * 5000, "12 digits at most. Received 5000"),
    ],
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


# --- the address ---------------------------------------------------------------------------------


def test_the_address_restores_the_view(open_page, words_model):
    query = {"model": str(words_model), "prompt": PROMPT, "bos": "0", "layer": "1", "head": "3",
             "show": "layer"}  # fmt: skip
    app = open_page("attention", **query)
    address = dict(app.query_params)
    assert query.items() <= address.items()
    values = [app.selectbox(key=f"attention/{name}").value for name in ("layer", "head", "show")]
    assert values == [1, 3, "layer"]
    again = open_page("attention", **address)
    assert dict(again.query_params) == address
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
    ("page", "asked"),
    [
        (
            "attention",
            {
                ("layer", "99"): "There is no layer '99' here. Shown: 0.",
                ("head", "L0H1"): "There is no head 'L0H1' here. Shown: 0.",
                ("show", "*"): "There is no overview '*' here. Shown: Heads of all layers.",
            },
        ),
        (
            "prompt",
            {
                ("position", "-1"): "There is no position '-1' here. Shown: 8: cat.",
                ("colour", "red"): "This page does not know 'colour', which the address holds.",
            },
        ),
    ],
)
def test_what_the_address_asks_for_in_vain_is_told(open_page, page, asked):
    app = open_page(page, prompt=PROMPT, **dict(asked.keys()))
    assert sorted(said(app.warning)) == sorted(asked.values())
    assert not app.error
    app.run()
    assert not app.warning  # told once


def test_an_unknown_page_is_the_first_page(open_page):
    assert open_page("no-such-page", prompt=PROMPT).title[0].value == "Prompt"


# --- sharing -------------------------------------------------------------------------------------


def test_sessions_share_the_model_and_its_runs(open_page, monkeypatch, sizes):
    import dashboards.page.subject as subject

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
    assert sizes.runs == 1


def test_runs_hold_the_models_lock(open_page, monkeypatch, words_model):
    from dashboards.page.subject import open_model

    held, forward = [], HookedTransformer.forward

    def spy(*args, **kwargs):
        held.append(open_model(str(words_model)).lock._is_owned())
        return forward(*args, **kwargs)

    monkeypatch.setattr(HookedTransformer, "forward", spy)
    for page in ("prompt", "attention", "head-attribution"):
        open_page(page, prompt=PROMPT)
    assert held and all(held)


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
