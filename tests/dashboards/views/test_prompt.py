"""The prompt page: tokens, predictions, surprise, answers, two prompts, the text continued."""

from __future__ import annotations

import math
import re
from html import unescape
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("streamlit", reason="needs the extra 'dashboard'")
pytest.importorskip("plotly", reason="needs the extra 'dashboard'")

from dashboards.drawing import chips
from dashboards.views.prompt import outputs
from interp import HookedTransformer, zoo
from tests.dashboards.recorded import Recorded
from tests.dashboards.screen import PROMPT, direct_logits, figures, html, said, table

OTHER = "the dog sat on the mat the dog"


@pytest.fixture
def drawn(monkeypatch):
    return Recorded(monkeypatch)


def test_predictions_are_those_of_the_model(open_page, model, drawn):
    app = open_page(prompt=PROMPT, position="3")
    assert not app.error and not app.warning
    _, logits = direct_logits(model)
    here = logits[3].double()
    best = here.topk(10)
    shown = table(app, "probability")
    assert shown["token_id"].tolist() == best.indices.tolist()
    np.testing.assert_allclose(shown["probability"], here.softmax(-1)[best.indices], rtol=1e-5)
    bars = figures(app)["prompt/figure/predictions"]
    np.testing.assert_allclose(bars["data"][0]["y"], shown["probability"])
    assert bars["layout"]["yaxis"]["range"][0] == 0 and bars["layout"]["yaxis"]["range"][1] >= 1
    # All positions: probabilities coloured from 0 to 1, the tokens written in the cells.
    every = figures(app)["prompt/figure/everywhere/3"]
    cells = every["data"][0]
    top = logits.double().softmax(-1).topk(10)
    np.testing.assert_allclose(cells["z"], top.values, rtol=1e-5)
    words = [[model.to_single_str_token(i) for i in row] for row in top.indices.tolist()]
    assert [[unescape(text) for text in row] for row in cells["text"]] == words
    assert (every["layout"]["coloraxis"]["cmin"], every["layout"]["coloraxis"]["cmax"]) == (0, 1)
    (mark,) = every["layout"]["shapes"]
    assert (mark["y0"], mark["y1"]) == (2.5, 3.5)
    assert drawn.check_scripts() == 5


def test_a_click_on_a_row_chooses_its_position(open_page, monkeypatch):
    app = open_page(prompt=PROMPT)
    points = figures(app)["prompt/figure/everywhere/8"]["data"][1]
    choices = SimpleNamespace(keep=lambda *kept: chosen.append(kept))
    chosen: list[tuple[str, str]] = []
    clicked = {"selection": {"points": [{"customdata": points["customdata"][25]}]}}
    monkeypatch.setattr(outputs.st, "session_state", {"key": clicked})
    outputs._pick(choices, "key")
    assert points["y"][25] == 2 and chosen == [("position", "2")]


def test_surprise_is_the_loss_of_each_token(open_page, model, drawn):
    app = open_page(prompt=PROMPT)
    tokens, logits = direct_logits(model)
    logs = logits[:-1].double().log_softmax(-1)
    expected = -logs[torch.arange(len(tokens) - 1), tokens[1:]]
    entropy = torch.distributions.Categorical(logits=logs).entropy()
    shown = table(app, "surprise")
    np.testing.assert_allclose(shown["surprise"], expected, rtol=1e-5)
    np.testing.assert_allclose(shown["expected"], entropy, rtol=1e-5)
    ranks = [int((row >= row[t]).sum()) for row, t in zip(logs, tokens[1:], strict=True)]
    assert shown["rank"].tolist() == ranks
    assert shown["position"].tolist() == list(range(1, len(tokens)))
    assert f"{expected.mean():.3f} nats on average" in html(app)
    assert [each.value for each in app.metric] == [
        f"{expected.mean():.3f} nats",
        f"{math.exp(expected.mean()):.4g}",
        f"{entropy.mean():.3f} nats",
        f"{np.mean(np.array(ranks) == 1):.0%}",
    ]
    lines = figures(app)["prompt/figure/surprise"]["data"]
    np.testing.assert_allclose(lines[0]["y"], expected, rtol=1e-5)
    np.testing.assert_allclose(lines[1]["y"], entropy, rtol=1e-5)


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
    lines = figures(app)["prompt/figure/surprise"]
    assert list(lines["data"][0]["x"]) == [0, 1, 2, 3]  # equal tokens stay apart
    assert html(app).count("class=here") == 1


def test_a_long_token_is_cut_and_told_by_the_pointer(monkeypatch):
    drawn = []
    monkeypatch.setattr(chips.st, "html", drawn.append)
    chips.draw([7, 8], ["<i>" * 20, "short"], told={0: "rank 2"})
    (shown, *_), (short, *_) = drawn[0].split("<b>")[1:], drawn[0].split("<b>")[2:]
    label = unescape(shown.split("</b>")[0])
    assert len(label) == 32 and label.startswith("<i><i>") and label.endswith("…")
    assert unescape(re.findall('title="(.*?)"', drawn[0])[0]) == "<i>" * 20 + "; rank 2"
    assert "title=" not in short and "<i>" not in drawn[0]


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


def test_a_long_prompt_shows_the_positions_around_the_chosen_one(open_page, monkeypatch):
    monkeypatch.setattr(outputs, "WINDOW", 4)
    app = open_page(prompt=PROMPT, position="5")
    every = figures(app)["prompt/figure/everywhere/5"]
    assert every["data"][0]["z"].shape[0] == 4
    assert "Positions 3 … 6 of 9 are drawn." in html(app)
    assert every["layout"]["shapes"][0]["y0"] == 1.5


def test_answers_are_followed(open_page, model, drawn):
    app = open_page(prompt=PROMPT, answer="mat", rival="dog")
    _, logits = direct_logits(model)
    right, wrong = (model.to_single_token(word) for word in ("mat", "dog"))
    _, shown = drawn.chart("prompt/figure/answers")
    for token in (right, wrong):
        rows = shown[shown["token_id"] == token]
        np.testing.assert_allclose(
            rows["probability"], logits.softmax(-1)[:, token], rtol=1e-4, atol=1e-7
        )
        assert rows["rank"].tolist() == [int((row >= row[token]).sum()) for row in logits]
    difference = float(logits[-1, right] - logits[-1, wrong])
    assert f"{difference:.4g}" in [each.value for each in app.metric]
    drawn.check_scripts()


def test_two_prompts_side_by_side(open_page, model, drawn):
    app = open_page(prompt=PROMPT, second=OTHER, answer="mat")
    assert not app.error
    assert html(app).count("border-bottom:4px double") == 4  # two of each differ
    (_, one), (_, two) = direct_logits(model), direct_logits(model, OTHER)
    frame, _ = drawn.tables["prompt/table/comparison"]
    assert frame["differs"].tolist() == [False, False, True, *[False] * 5, True]
    p, q = one.double().log_softmax(-1), two.double().log_softmax(-1)
    np.testing.assert_allclose(frame["kl"], (p.exp() * (p - q)).sum(-1), atol=1e-6)
    other = model.to_tokens(OTHER)[0]
    np.testing.assert_allclose(
        frame["second_surprise"][1:], -q[torch.arange(8), other[1:]], rtol=1e-5
    )
    np.testing.assert_allclose(
        frame["change"][1:], (frame["second_surprise"] - frame["first_surprise"])[1:]
    )
    assert frame["second_next_token"].tolist() == [
        model.to_single_str_token(int(i)) for i in two.argmax(-1)
    ]
    _, answers = drawn.chart("prompt/figure/two-answers")
    mat = model.to_single_token("mat")
    np.testing.assert_allclose(
        answers["probability"], torch.cat([p[:, mat], q[:, mat]]).exp(), rtol=1e-5
    )
    assert answers["at_token"].tolist()[:3] == ["<bos>", "the", "cat|dog"]
    assert drawn.check_scripts() == 11


def test_prompts_of_unlike_length_are_compared_as_far_as_both_go(open_page, drawn):
    app = open_page(prompt=PROMPT, second="the dog sat")
    assert not app.error
    assert "compared are the 4 positions" in " ".join(said(app.caption))
    assert len(drawn.tables["prompt/table/comparison"][0]) == 4


def test_the_text_is_continued_on_a_button(open_page, model, drawn):
    app = open_page(prompt="the cat", n="5")
    assert "prompt/figure/continuation" not in figures(app)
    app.button(key="prompt/write").click().run()
    assert not app.exception and app.query_params["write"] == "1"
    tokens = model.to_tokens("the cat")
    whole = model.generate(tokens, max_new_tokens=5, do_sample=False, stop_at_eos=False)
    frame, _ = drawn.tables["prompt/table/continuation"]
    assert frame["token_id"].tolist() == whole[0, 3:].tolist()
    with torch.no_grad():
        logs = model(whole)[0].double().log_softmax(-1)
    np.testing.assert_allclose(frame["probability"], logs[2:-1].max(-1).values.exp(), rtol=1e-5)
    assert (frame["rank"] == 1).all() and (frame["drawn_from"] == 1).all()
    drawn.check_scripts()
    app.number_input(key="prompt/temperature").set_value(1.0).run()
    app.number_input(key="prompt/seed").set_value(3).run()
    expected = model.generate(tokens, max_new_tokens=5, temperature=1.0, seed=3, stop_at_eos=False)
    frame, _ = drawn.tables["prompt/table/continuation"]
    assert frame["token_id"].tolist() == expected[0, 3:].tolist()
    app.button(key="prompt/clear").click().run()
    assert "prompt/figure/continuation" not in figures(app)


def test_interventions_change_everything_and_the_scripts(open_page, drawn):
    query = {"prompt": PROMPT, "second": OTHER, "answer": "mat", "write": "1", "n": "3"}
    open_page(**query)
    before = {key: frame for key, (_, frame, _) in drawn.charts.items()}
    app = open_page(**query, edits="zero:L0MLP", edited="1")
    assert not app.error
    for key, (_, frame, _) in drawn.charts.items():
        assert not frame.equals(before[key]), key
    drawn.check_scripts()


def test_a_model_that_reads_both_ways_says_so(
    open_page, make_model, word_tokenizer, tmp_path, drawn
):
    both = make_model(word_tokenizer, d_vocab=13, attention_dir="bidirectional")
    query = {"prompt": PROMPT, "second": OTHER, "answer": "mat"}
    app = open_page(models=(both.save(tmp_path / "both"),), **query)
    assert not app.error
    assert drawn.chart("prompt/figure/two-answers")[0].x_label == "at the token"
    assert any("there is no next token" in text for text in said(app.caption))
    _, logits = direct_logits(both)
    shown = table(app, "probability")
    assert shown["token_id"].tolist() == logits[-1].topk(10).indices.tolist()
    assert not app.metric and "prompt/write" not in [each.key for each in app.button]


def test_a_classifier_shows_its_classes(open_page, drawn):
    app = open_page(models=(), model="zoo:brackets", prompt="(()())")
    assert not app.error and not app.warning
    model = zoo.load("zoo:brackets")
    read = [int(i) for i in re.findall(r"id (\d+)</small>", html(app))]
    assert read[-6:] == [2, 2, 3, 2, 3, 3]
    with torch.no_grad():
        expected = model(torch.tensor([read]))[0].double().softmax(-1)
    shown = table(app, "probability")
    assert set(shown["token"]) == {"0", "1"}
    for _, row in shown.iterrows():
        assert row["probability"] == pytest.approx(expected[int(row["token"])].item(), rel=1e-5)
    assert drawn.check_scripts() == 2


def test_an_encoder_decoder_shows_source_and_target(open_page, drawn):
    app = open_page(models=(), model="zoo:translation", prompt="the house is old")
    assert not app.error
    model = zoo.load("zoo:translation")
    source = model.tokenize("the house is old")[0]
    with torch.no_grad():
        target = model.generate(source, max_new_tokens=40, do_sample=False, return_type="tokens")
        target = target[:, :-1]  # the end is predicted, not read
        logits = model(source, decoder_input=target)[0]
    rows = html(app).split("figure-title")
    chips = [len(re.findall("<small>", row)) for row in rows if "<small>" in row or "chips" in row]
    assert chips[:2] == [source.shape[1], target.shape[1]]
    shown = table(app, "probability")
    assert shown["token_id"].tolist() == logits[-1].topk(10).indices.tolist()
    np.testing.assert_allclose(
        table(app, "surprise")["surprise"],
        -logits[:-1].double().log_softmax(-1)[torch.arange(target.shape[1] - 1), target[0, 1:]],
        rtol=1e-3,
        atol=1e-6,
    )
    drawn.check_scripts()


def test_a_model_without_a_tokenizer_is_continued(open_page, mute_model, drawn):
    app = open_page(models=(mute_model,), prompt="3 14 15", write="1", n="2")
    assert not app.error
    model = HookedTransformer.load(mute_model)
    whole = model.generate(torch.tensor([[3, 14, 15]]), max_new_tokens=2, do_sample=False)
    frame, _ = drawn.tables["prompt/table/continuation"]
    assert frame["token_id"].tolist() == whole[0, 3:].tolist()
