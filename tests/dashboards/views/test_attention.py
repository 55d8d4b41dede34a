"""The attention page: the overview, one head large, lines, entropy, kinds of heads."""

from __future__ import annotations

import base64
import io
from html import unescape
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("streamlit", reason="needs the extra 'dashboard'")
pytest.importorskip("plotly", reason="needs the extra 'dashboard'")

from dashboards.views.attention import behaviours, flow, numbers, page
from interp import HookedTransformer, zoo
from interp.attribution.rollout import attention_rollout
from interp.behaviour import head_scores
from interp.charts.tokens import visible
from tests.dashboards.recorded import Recorded
from tests.dashboards.screen import PROMPT, figures, html, said

OTHER = "the dog sat on the mat the dog"


@pytest.fixture
def drawn(monkeypatch):
    return Recorded(monkeypatch)


@pytest.fixture
def cache(model):
    with torch.no_grad():
        return model.run_with_cache(model.to_tokens(PROMPT))[1]


def shades(figure):
    """The pixels of an overview, as places in its palette."""
    from PIL import Image

    source = figure["data"][0]["source"].removeprefix("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source))))


def test_an_empty_address(open_page, model, cache, drawn):
    app = open_page("attention", prompt=PROMPT)
    assert not app.error and not app.warning
    assert "Attention weights alone are not an explanation" in said(app.caption)[0]
    shown = figures(app)
    # The large map: the pattern, on a scale from 0 to 1; what cannot be seen is absent.
    large = shown["attention/large"]
    cells = np.array(large["data"][0]["z"], dtype=float)
    mask = np.tril(np.ones((9, 9), bool))
    np.testing.assert_allclose(cells[mask], cache["pattern", 0][0, 0].numpy()[mask], atol=1e-6)
    assert np.isnan(cells[~mask]).all()
    axis = large["layout"]["coloraxis"]
    assert (axis["cmin"], axis["cmax"]) == (0, 1)
    texts = [unescape(text) for text in large["layout"]["yaxis"]["ticktext"]]
    assert texts[0] == "<bos>" and texts[3] == "sat"
    assert large["layout"]["yaxis"]["range"] == [8.5, -0.5]  # the first token at the top
    # The overview: a tile for each of eight heads.
    overview = shown["attention/mosaic/0/0/all"]
    heads = [tuple(head) for head in overview["data"][2]["customdata"]]
    assert heads == [(layer, head) for layer in range(2) for head in range(4)]
    pattern = torch.cat([cache["pattern", layer][0] for layer in (0, 1)]).numpy()
    visible_cells = np.rint(pattern[:, mask] * 254)
    pixels = shades(overview)
    lit = np.sort(pixels[pixels < 255])
    np.testing.assert_array_equal(lit, np.sort(visible_cells.ravel()).astype(int))
    # Every figure has its alternative.
    alternatives = [part.proto.alt for part in app.get("plotly_chart")]
    assert len(alternatives) == 5
    assert all(alt and f">{alt}<" in html(app).replace("&lt;", "<").replace("&gt;", ">")
               for alt in alternatives)  # fmt: skip
    assert drawn.check_scripts() == 6


def test_a_deep_link_restores_the_view(open_page, drawn):
    query = {"layer": "1", "head": "max", "measure": "weighted", "of": "second", "show": "layer",
             "threshold": "0.3", "to": "4", "from": "1", "behaviour": "first token",
             "attends": "self", "prompt": PROMPT, "second": OTHER}  # fmt: skip
    app = open_page("attention", **query)
    assert not app.error and not app.warning
    assert {name: app.query_params[name] for name in query} == query
    model = HookedTransformer.load(app.query_params["model"])
    with torch.no_grad():
        _, cache = model.run_with_cache(model.to_tokens(OTHER))
    moved = cache["v", 1][0, :, :, None] @ model.W_O[1].detach()
    sizes = moved.norm(dim=-1)[:, :, 0]  # [pos, head]
    weighted = (cache["pattern", 1][0] * sizes.T[:, None]).amax(0)
    chart, frame = drawn.chart("attention/large")
    np.testing.assert_allclose(
        frame["size"], weighted[frame["destination"], frame["source"]], rtol=1e-4
    )
    assert chart.limits[0] == 0 and not chart.signed
    (lines, _) = drawn.tables["attention/table/flow"]
    assert (lines["destination"] == 4).all() and (lines["source"] == 1).all()
    drawn.check_scripts()


def test_scores_and_rollout(open_page, model, cache, drawn):
    open_page("attention", prompt=PROMPT, measure="scores", layer="1", head="3")
    chart, frame = drawn.chart("attention/large")
    assert chart.signed
    at = frame["destination"].tolist(), frame["source"].tolist()
    np.testing.assert_allclose(frame["score"], cache["attn_scores", 1][0, 3][at], atol=1e-5)
    assert len(frame) == 45  # masked ones are absent
    drawn.check_scripts()
    drawn.charts.clear()
    open_page("attention", prompt=PROMPT, measure="rollout", layer="1")
    _, frame = drawn.chart("attention/large")
    np.testing.assert_allclose(frame["share"], attention_rollout(cache)[1, 0][at], atol=1e-6)
    drawn.check_scripts()


@pytest.mark.parametrize("of", ["mean", "difference"])
def test_two_prompts_as_one(open_page, model, cache, drawn, of):
    app = open_page("attention", prompt=PROMPT, second=OTHER, of=of, head="mean")
    assert not app.error
    with torch.no_grad():
        _, other = model.run_with_cache(model.to_tokens(OTHER))
    one, two = (each["pattern", 0][0].mean(0) for each in (cache, other))
    chart, frame = drawn.chart("attention/large")
    at = frame["destination"].tolist(), frame["source"].tolist()
    expected = (one + two) / 2 if of == "mean" else two - one
    np.testing.assert_allclose(frame["attention"], expected[at], atol=1e-6)
    assert chart.signed is (of == "difference")
    assert "cat|dog" in set(frame["source_token"])
    drawn.check_scripts()


def test_prompts_of_unlike_length_are_refused(open_page):
    app = open_page("attention", prompt=PROMPT, second="the dog", of="mean")
    assert "needs as many tokens in each: these have 9 and 3" in said(app.error)[0]


def test_entropy_and_the_strongest_source(open_page, model, cache, drawn):
    open_page("attention", prompt=PROMPT, layer="1", head="2")
    pattern = cache["pattern", 1][0, 2].double()
    frame, _ = drawn.tables["attention/table/focus"]
    expected = [float(torch.special.entr(row[: i + 1]).sum()) for i, row in enumerate(pattern)]
    np.testing.assert_allclose(frame["entropy"], expected, atol=1e-6)
    np.testing.assert_allclose(frame["uniform"], np.log(np.arange(1, 10)))
    assert frame["source"].tolist() == pattern.argmax(-1).tolist()
    texts = model.to_str_tokens(PROMPT)
    assert frame["source_token"].tolist() == [texts[i] for i in frame["source"]]
    assert visible(texts[0]) == "<bos>"


def test_entropy_of_the_largest_is_that_of_a_distribution(open_page, cache, drawn):
    open_page("attention", prompt=PROMPT, head="max")
    frame, _ = drawn.tables["attention/table/focus"]
    most = cache["pattern", 0][0].amax(0).double()
    expected = torch.distributions.Categorical(probs=most).entropy()
    np.testing.assert_allclose(frame["entropy"], expected, atol=1e-5)
    assert (frame["entropy"] <= frame["uniform"] + 1e-9).all()


@pytest.mark.parametrize(
    ("edit", "factor", "signed"),
    [("scale:L0H*.pattern*3", 3, False), ("scale:L0H*.pattern*-1", -1, True)],
)
def test_a_pattern_that_an_intervention_took_beyond_shares(
    open_page, cache, drawn, edit, factor, signed
):
    app = open_page("attention", prompt=PROMPT, edits=edit, edited="1")
    assert not app.error
    chart, frame = drawn.chart("attention/large")
    at = frame["destination"].tolist(), frame["source"].tolist()
    np.testing.assert_allclose(
        frame["attention"], factor * cache["pattern", 0][0, 0][at], atol=1e-5
    )
    assert chart.signed is signed and not chart.is_probability
    focus, _ = drawn.tables["attention/table/focus"]
    assert focus["entropy"].isna().all() if signed else focus["entropy"].notna().all()
    drawn.check_scripts()


def test_nothing_moved_draws_no_lines(open_page, drawn):
    edits = "zero:L0H0.v"
    app = open_page("attention", prompt=PROMPT, measure="weighted", edits=edits, edited="1")
    assert not app.error
    assert drawn.tables["attention/table/flow"][0].empty
    drawn.check_scripts()


def test_behaviours_are_those_of_the_library(open_page, model, drawn):
    app = open_page("attention", prompt=PROMPT, layer="1", head="2", behaviour="duplicate token")
    expected = head_scores(model, model.to_tokens(PROMPT))
    _, frame = drawn.chart("attention/behaviours")
    scores = expected["duplicate_token"].score
    np.testing.assert_allclose(frame["score"], scores.flatten(), atol=1e-5)
    own, _ = drawn.tables["attention/table/behaviours"]
    assert own["behaviour"].tolist() == [name.replace("_", " ") for name in expected]
    np.testing.assert_allclose(
        own["excess"], [float(each.excess[1, 2]) for each in expected.values()], atol=1e-5
    )
    drawn_heads = figures(app)["attention/behaviours/1/2"]
    assert drawn_heads["layout"]["shapes"][0]["x0"] == 1.5
    app.selectbox(key="attention/behaviour").select("previous token").run()
    assert app.query_params["behaviour"] == "previous token"


def test_a_prompt_without_repeats_says_that_induction_cannot_show(open_page):
    app = open_page("attention", prompt="the cat sat on")
    assert "No token of this prompt has a place where such a head would look" in said(app.info)[0]


@pytest.mark.parametrize(
    ("pick", "customdata", "expected"),
    [
        (page._pick, [1, 2], [("layer", "1"), ("head", "2")]),
        (behaviours._pick, [2, 1, "2", "1"], [("layer", "1"), ("head", "2")]),
        (lambda c, k: flow._pick(c, k, None, 3), ["to", 3], [("to", "3")]),
        (lambda c, k: flow._pick(c, k, None, 3), ["from", 3], [("from", "all")]),
    ],
)
def test_clicks_choose(monkeypatch, pick, customdata, expected):
    kept: list[tuple[str, str]] = []
    choices = SimpleNamespace(keep=lambda *each: kept.append(each))
    clicked = {"selection": {"points": [{"customdata": customdata}]}}
    for module in (page, behaviours, flow):
        monkeypatch.setattr(module.st, "session_state", {"key": clicked})
    pick(choices, "key")
    assert kept == expected


def test_lines_are_the_weights_above_the_threshold(open_page, cache, drawn):
    app = open_page("attention", prompt=PROMPT, threshold="0.2")
    pattern = cache["pattern", 0][0, 0]
    lines, _ = drawn.tables["attention/table/flow"]
    assert len(lines) == int((pattern >= 0.2).sum())
    assert lines["attention"].is_monotonic_decreasing
    traces = figures(app)["attention/flow/None/None"]["data"]
    count = sum(int(np.isnan(np.array(each["x"], float)).sum()) for each in traces[:-2])
    assert count == len(lines)  # a gap ends each line
    for each in traces[:-2]:
        share = each["line"]["width"] / 9.0
        # Lines of one width are of one tenth of the scale.
        ends = np.array(each["y"], float).reshape(-1, 18)[:, [0, 16]].astype(int)
        weights = pattern[ends[:, 0], ends[:, 1]].numpy()
        assert ((weights <= share + 1e-6) & (weights > share - 0.1 - 1e-6)).all()
    app.slider(key="attention/threshold").set_value(1.0).run()
    assert app.query_params["threshold"] == "1.0"
    assert len(drawn.tables["attention/table/flow"][0]) == int((pattern >= 1.0).sum())


def test_only_the_watched_layer_is_recorded(open_page, monkeypatch):
    asked = []
    record = HookedTransformer.record

    def spy(self, *args, names_filter=None, **kwargs):
        asked.append(names_filter)
        return record(self, *args, names_filter=names_filter, **kwargs)

    monkeypatch.setattr(HookedTransformer, "record", spy)
    app = open_page("attention", prompt=PROMPT, layer="1", show="layer")
    assert asked == [["blocks.1.attn.hook_pattern"]]
    app.selectbox(key="attention/head").select(3).run()
    assert len(asked) == 1  # the same layer is not run again
    app.selectbox(key="attention/show").select("model").run()
    assert asked[1:] == [["blocks.0.attn.hook_pattern", "blocks.1.attn.hook_pattern"]]


def test_a_long_prompt_is_clipped_and_told(open_page, monkeypatch, drawn):
    monkeypatch.setattr(numbers, "MAX_TOKENS", 4)
    app = open_page("attention", prompt=PROMPT)
    assert figures(app)["attention/large"]["data"][0]["z"].shape == (4, 4)
    assert html(app).count("The first 4 of 9 tokens are drawn.") == 3
    drawn.check_scripts()


def test_one_token_has_one_cell(open_page):
    app = open_page("attention", prompt="the", bos="0")
    assert not app.error
    assert figures(app)["attention/large"]["data"][0]["z"].tolist() == [[1.0]]
    assert "It has one token to look at." in html(app)


@pytest.mark.parametrize("attends", ["self", "encoder", "cross"])
def test_an_encoder_decoder_has_three_kinds(open_page, drawn, attends):
    source, target = "the house is old", "A casa"
    app = open_page(
        "attention", models=(), model="zoo:translation", prompt=source, decoder=target,
        attends=attends, layer="1", head="1",
    )  # fmt: skip
    assert not app.error and not app.warning
    model = zoo.load("zoo:translation")
    decoder = model.tokenize(target, target=True)[0]
    with torch.no_grad():
        _, cache = model.run_with_cache(model.tokenize(source)[0], decoder_input=decoder)
    name = {"self": "decoder.blocks.1.attn", "encoder": "encoder.blocks.1.attn",
            "cross": "decoder.blocks.1.cross_attn"}[attends]  # fmt: skip
    pattern = cache[f"{name}.hook_pattern"][0, 1].numpy()
    cells = np.array(figures(app)["attention/large"]["data"][0]["z"], dtype=float)
    assert cells.shape == pattern.shape
    np.testing.assert_allclose(np.nan_to_num(cells), pattern, atol=1e-6)
    assert np.isnan(cells).any() == (attends == "self")
    if attends == "cross":  # its script names both texts
        drawn.check_scripts()


def test_interventions_show(open_page, model, cache, drawn):
    app = open_page("attention", prompt=PROMPT, layer="1", edits="zero:L0MLP", edited="1")
    assert not app.error
    _, frame = drawn.chart("attention/large")
    before = cache["pattern", 1][0, 0][frame["destination"].tolist(), frame["source"].tolist()]
    assert not np.allclose(frame["attention"], before, atol=1e-3)
    drawn.check_scripts()
