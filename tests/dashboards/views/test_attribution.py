"""The head attribution page, drawn by Streamlit without a browser."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("streamlit", reason="needs the extra 'dashboard'")
pytest.importorskip("plotly", reason="needs the extra 'dashboard'")
pytest.importorskip("seaborn", reason="needs the extra 'plots'")

import streamlit as st

from analyses import run_analysis
from dashboards.views.attribution import heads
from interp.attribution import (
    direct_logit_attribution,
    input_gradients,
    integrated_gradients,
    neuron_attribution,
    source_attribution,
)
from interp.patching.metrics import LogitDiff, LogProb
from tests.dashboards.recorded import Recorded
from tests.dashboards.screen import PROMPT, direct_logits, figures, html, said
from tests.interp.kinds import KINDS


@pytest.fixture
def drawn(monkeypatch):
    return Recorded(monkeypatch)


def whole(model, right, wrong=None, less_mean=False):
    tokens = model.to_tokens(PROMPT)
    _, cache = model.run_with_cache(tokens)
    return cache, direct_logit_attribution(model, cache, right, wrong, less_mean)


def test_an_empty_address(open_page, model, drawn):
    """The prediction against the runner-up, at the last position."""
    app = open_page("attribution", prompt=PROMPT)
    assert not app.error and not app.warning, said([*app.error, *app.warning])
    tokens, logits = direct_logits(model)
    right, wrong = logits[-1].topk(2).indices.tolist()
    cache, found = whole(model, right, wrong)
    heads = found.heads(2, 4)[:, :, 0, -1]
    figure = next(f for key, f in figures(app).items() if key.startswith("attribution/heads"))
    assert np.allclose(figure["data"][0]["z"], heads, atol=1e-5)
    axis = figure["layout"]["coloraxis"]
    assert axis["cmax"] == -axis["cmin"] == pytest.approx(heads.abs().max().item(), abs=1e-5)
    _, outline = figure["layout"]["shapes"]
    place = (outline["y0"] + 0.5, outline["x0"] + 0.5)
    assert place == divmod(int(heads.abs().argmax()), 4)
    # The points over the cells say which head each is.
    points = figure["data"][1]["customdata"]
    assert [point[:2] for point in points] == [[h, layer] for layer in (0, 1) for h in range(4)]
    value = float(logits[-1, right] - logits[-1, wrong])
    lines = said(app.markdown)
    assert any(f"The contributions sum to {value:.6g}" in line for line in lines)
    assert sum("Checked" in line for line in lines) == 4  # stream, logit, sources, neurons
    assert found.total()[0, -1].item() == pytest.approx(value, abs=1e-5)
    # The head with the largest share, either sign, is split by source.
    layer, head = divmod(int(heads.abs().argmax()), 4)
    assert app.selectbox(key="attribution/layer").value == layer
    assert app.selectbox(key="attribution/head").value == head
    split = source_attribution(model, cache, found, layer, head)[0]
    matrix = next(f for key, f in figures(app).items() if key == "attribution/matrix")
    cells = np.array(matrix["data"][0]["z"], dtype=float)
    seen = np.tril(np.ones_like(cells, dtype=bool))
    assert np.allclose(cells[seen], split.numpy()[seen], atol=1e-5)
    assert np.isnan(cells[~seen]).all()  # what a causal head cannot see is absent, not zero
    _, own = drawn.chart("attribution/sources/head")
    assert np.allclose(own["attribution"], split[-1], atol=1e-5)
    _, summed = drawn.chart("attribution/sources/all")
    every = sum(source_attribution(model, cache, found, i, h)[0, -1]
                for i in range(2) for h in range(4))  # fmt: skip
    assert np.allclose(summed["attribution"], every, atol=1e-5)
    _, leading = drawn.chart("attribution/sources/leading")
    assert leading["head"].nunique() == 8
    _, read = drawn.chart("attribution/read")
    expected = input_gradients(model, tokens[None], LogitDiff(right, wrong, pos=-1))
    assert np.allclose(read["attribution"], expected.times_input[0], atol=1e-5)
    assert drawn.check_scripts() == 11
    # The canned analysis says the same.
    canned = run_analysis("head-attribution", model, prompt=PROMPT, target=right, wrong=wrong)
    table = canned.tables["by-source"]
    assert table["head"].iloc[0] == f"L{layer}H{head}"
    assert np.allclose(table["attribution"], own["attribution"], atol=1e-5)


DEEP = {
    "quantity": "excess", "answer": "dog", "position": "5", "layer": "1", "head": "2", "mlp": "0",
    "neuron": "L0N3", "method": "integrated gradients", "logprob": "1", "steps": "16",
}  # fmt: skip


def test_a_deep_link(open_page, model, drawn):
    dog = model.to_single_token("dog")
    cache, found = whole(model, dog, less_mean=True)
    shares = neuron_attribution(model, cache, found, 0)[0, 5]
    best = [f"L0N{n}" for n in shares.abs().topk(20).indices.tolist()]
    assert "L0N3" in best
    app = open_page("attribution", prompt=PROMPT, **DEEP)
    assert not app.error and not app.warning, said([*app.error, *app.warning])
    # What is a default (of 0 or 1, or of this prompt) is shown all the same.
    assert {name: app.query_params[name] for name in DEEP} == DEEP
    tokens, logits = direct_logits(model)
    value = float(logits[5, dog] - logits[5].mean())
    text = "logit of “dog” less the mean logit is"
    assert any(f"{text} {value:.6g}" in line for line in said(app.markdown))
    _, neurons = drawn.chart("attribution/neurons")
    assert neurons["neuron"].tolist() == best
    assert np.allclose(neurons["attribution"], shares[neurons["number"].tolist()], atol=1e-5)
    _, promoted = drawn.chart("attribution/neuron-tokens")
    assert set(promoted["component"]) == {"L0N3"}
    _, promoted = drawn.chart("attribution/tokens")
    assert set(promoted["component"]) == {"L1H2"}
    _, read = drawn.chart("attribution/read")
    path = integrated_gradients(model, tokens[None], LogProb(dog, pos=5), "mean", 16)
    assert np.allclose(read["attribution"], path.attributions[0], atol=1e-5)
    assert any("The attributions miss that difference by" in c for c in said(app.caption))
    assert (read["attribution"][6:].abs() < 1e-7).all()  # later tokens are not read
    drawn.check_scripts()


def test_widgets(open_page, model, drawn):
    app = open_page("attribution", prompt=PROMPT, layer="0", head="1")
    app.selectbox(key="attribution/head").select_index(3)
    app.session_state["attribution/ov"] = True
    app.selectbox(key="attribution/method").select("gradient norm").run()
    assert not app.error and not app.exception
    chart, read = drawn.chart("attribution/read")
    assert not chart.signed and (read["attribution"] >= 0).all()
    assert drawn.chart("attribution/matrix")[0].title.startswith("L0H3")
    table, _ = drawn.tables["attribution/ov/table"]
    assert table["token_id"].unique().tolist() == list(
        dict.fromkeys(model.to_tokens(PROMPT)[0].tolist())
    )
    assert "L0H3" in html(app)
    # Heads were drawn once for each choice, for a click on the same cell must count again.
    heads = [key for key in drawn.charts if key.startswith("attribution/heads")]
    assert len(heads) == 2
    assert drawn.check_scripts() == 13


def test_interventions(open_page, model, drawn):
    """A head that writes nothing has no share; its sources are those in front of the edit."""
    app = open_page("attribution", prompt=PROMPT, edits="zero:L1H2", edited="1", quantity="logit",
                    answer="sat")  # fmt: skip
    assert not app.error
    (warning,) = said(app.warning)
    assert warning.startswith("Each head's sources sum to its share.")
    assert "An intervention on what a head writes acts behind this split" in warning
    _, heads = drawn.chart("attribution/heads")
    assert heads.set_index("component")["contribution"]["L1H2"] == 0
    tokens, _ = direct_logits(model)
    sat = model.to_single_token("sat")
    cut = ("blocks.1.attn.hook_z", lambda z, hook: z.index_fill(2, torch.tensor([2]), 0.0))
    with torch.no_grad():
        value = float(model.run_with_hooks(tokens[None], fwd_hooks=[cut])[0, -1, sat])
    assert any(f"sum to {value:.6g}" in line for line in said(app.markdown))
    drawn.check_scripts()


@pytest.mark.parametrize("kind", ["marian", "attn-only", "mixtral-post"])
def test_models_of_other_kinds(open_page, tmp_path, make_model, drawn, kind):
    capped = {"output_logits_soft_cap": 2.0} if kind == "attn-only" else {}
    path = make_model(**KINDS[kind], **capped, model_name="other").save(tmp_path / "other")
    more = {"decoder": "2 7 1", "attends": "cross-head"} if kind == "marian" else {}
    app = open_page("attribution", models=(path,), model=str(path), prompt="3 1 4 1 5", **more)
    assert not app.error and not app.warning, said(app.error)
    keys = {key.removeprefix("attribution/").split("/")[0] for key in drawn.charts}
    assert ("neurons" in keys) == (kind != "attn-only")
    assert ("neuron-tokens" in keys) == (kind == "marian")
    figure = next(f for key, f in figures(app).items() if key.startswith("attribution/heads"))
    outlined = [shape["xref"] for shape in figure["layout"]["shapes"][::2]]
    assert outlined == (["x2"] if kind == "marian" else ["x"])  # the panel of the kind chosen
    chart, _ = drawn.chart("attribution/heads")
    assert chart.facet == ("kind" if kind == "marian" else None)
    if kind == "marian":
        assert "matrix" not in keys
        _, promoted = drawn.chart("attribution/tokens")
        assert "C" in promoted["component"].iloc[0]
        _, read = drawn.chart("attribution/read")
        assert read["sequence"].unique().tolist() == ["source", "target"]
        drawn.check_scripts()
    if kind == "attn-only":
        assert any("before the soft cap" in line for line in said(app.markdown))


@pytest.mark.parametrize("kind", ["bert", "next-sentence"])
def test_without_a_linear_logit_tokens_are_attributed_all_the_same(
    open_page, tmp_path, make_model, drawn, kind
):
    model = make_model(**KINDS[kind], model_name="other")
    path = model.save(tmp_path / "other")
    app = open_page("attribution", models=(path,), model=str(path), prompt="3 1 4 1 5")
    assert not app.error and not app.warning, said([*app.error, *app.warning])
    assert any("not linear in its residual stream" in each for each in said(app.info))
    assert list(drawn.charts) == ["attribution/read"]
    tokens = torch.tensor([[3, 1, 4, 1, 5]])
    with torch.no_grad():
        logits = model(tokens)[0]
    top = int((logits if model.cfg.classifies else logits[-1]).argmax())
    expected = input_gradients(model, tokens, LogProb(top, pos=-1)).times_input[0]
    _, read = drawn.chart("attribution/read")
    assert np.allclose(read["attribution"], expected, atol=1e-5)
    drawn.check_scripts()


def test_clicks(monkeypatch):
    kept = {}
    choices = SimpleNamespace(keep=kept.__setitem__)
    points = [{"customdata": [2, 1, "2", "1"]}]
    monkeypatch.setattr(st, "session_state", {"key": {"selection": {"points": points}}})
    heads.pick(choices, "key")
    assert kept == {"layer": "1", "head": "2"}
    points[0] = {"customdata": [3, 0, "cross-head", "3", "0"]}
    heads.pick(choices, "key")
    assert kept == {"layer": "0", "head": "3", "attends": "cross-head"}


def test_wrong_addresses_are_messages(open_page):
    app = open_page("attribution", prompt=PROMPT, layer="9", steps="3", quantity="<script>")
    assert not app.exception and not app.error
    warnings = said(app.warning)
    assert any("There is no layer '9' here" in each for each in warnings)
    assert any("'<script>'" in each for each in warnings)
    assert any("does not know 'steps'" in each for each in warnings)


def test_too_much_for_a_page_is_said_and_the_rest_drawn(open_page, monkeypatch, drawn):
    monkeypatch.setattr("dashboards.readings.base.MOST_NUMBERS", 8 * 9 * 9 - 1)
    app = open_page("attribution", prompt=PROMPT)
    assert not app.error
    (info,) = said(app.info)
    assert info.startswith("The patterns of all heads would hold 648 numbers at once")
    assert "attribution/read" in drawn.charts
