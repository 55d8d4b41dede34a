"""The residual stream page, drawn by Streamlit without a browser."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("streamlit", reason="needs the extra 'dashboard'")
pytest.importorskip("plotly", reason="needs the extra 'dashboard'")
pytest.importorskip("seaborn", reason="needs the extra 'plots'")

import streamlit as st

from analyses.attribution.contributions import contributions
from dashboards.views.residual import picking
from interp.lens import logit_lens
from tests.dashboards.recorded import Recorded
from tests.dashboards.screen import PROMPT, direct_logits, figures, said
from tests.interp.kinds import KINDS


@pytest.fixture
def drawn(monkeypatch):
    return Recorded(monkeypatch)


def test_an_empty_address(open_page, model, drawn):
    app = open_page("residual", prompt=PROMPT)
    assert not app.error and not app.warning, said([*app.error, *app.warning])
    tokens, logits = direct_logits(model)
    n = len(tokens)
    top = int(logits[-1].argmax())
    # The lens: cells are those of the library, tokens written in them, probabilities coloured 0..1.
    read = logit_lens(model, tokens[None])
    figure = next(f for key, f in figures(app).items() if key.startswith("residual/lens"))
    cells = figure["data"][0]
    assert np.allclose(cells["z"], read.top_probabilities[:, 0, :, 0], atol=1e-6)
    shown = np.array(cells["text"])
    assert shown.shape == (3, n)
    words = [model.to_single_str_token(int(t)) for t in read.top_tokens[1, 0, :, 0]]
    assert [t.replace("&lt;", "<").replace("&gt;", ">") for t in shown[1]] == words
    axis = figure["layout"]["coloraxis"]
    assert (axis["cmin"], axis["cmax"]) == (0, 1)
    assert list(figure["layout"]["yaxis"]["ticktext"]) == ["0_pre", "1_pre", "final_post"]
    # The sums, by layers, of the prediction's logit less the mean.
    found = contributions(model, n - 1, top, less_mean=True, input=tokens[None])
    value = float(logits[-1, top] - logits[-1].mean())
    lines = said(app.markdown)
    assert any(f"The contributions sum to {value:.6g}" in line for line in lines), lines
    assert sum(line.startswith(":material/check_circle:") for line in lines) == 2
    chart, table = drawn.chart("residual/grid")
    assert chart.signed and chart.kind == "heatmap"
    expected = found.table[found.table["layer"] >= 0]
    assert np.allclose(table["contribution"], expected["contribution"], atol=1e-5)
    scale = figures(app)["residual/bars"]["data"][0]["y"]
    assert np.allclose(np.sort(scale), np.sort(found.table["contribution"]), atol=1e-5)
    # The component with the largest contribution is the one whose tokens are listed.
    biggest = found.table.iloc[int(found.table["contribution"][:-2].abs().argmax())]["component"]
    assert app.selectbox(key="residual/component").value == biggest
    # What is looked at is outlined: the last position, and that component where it has a cell.
    _, outline = figure["layout"]["shapes"]
    assert [outline[end] for end in ("x0", "x1", "y0", "y1")] == [n - 1.5, n - 0.5, -0.5, 2.5]
    grid = next(f for key, f in figures(app).items() if key.startswith("residual/grid"))
    assert bool(grid["layout"].get("shapes")) == (biggest in expected["component"].tolist())
    assert drawn.check_scripts() == 8


DEEP = {
    "by": "head", "quantity": "difference", "answer": "cat", "rival": "dog", "position": "4",
    "measure": "answer-rank", "mid": "1", "component": "a neuron", "neuron_layer": "1",
    "neuron": "7", "norms": "relative", "skip": "1",
}  # fmt: skip


def test_a_deep_link(open_page, model, drawn):
    app = open_page("residual", prompt=PROMPT, **DEEP)
    assert not app.error and not app.warning, said([*app.error, *app.warning])
    assert {name: app.query_params[name] for name in DEEP} == DEEP
    tokens, logits = direct_logits(model)
    right, wrong = model.to_single_token("cat"), model.to_single_token("dog")
    read = logit_lens(model, tokens[None], right, incl_mid=True)
    chart, lens = drawn.chart("residual/lens")
    assert chart.value == "log_target_rank" and chart.text == "target_rank"
    assert lens["target_rank"].tolist() == (read.target_rank + 1).flatten().tolist()
    assert np.allclose(lens["log_target_rank"], np.log10(lens["target_rank"]))
    _, along = drawn.chart("residual/along")
    assert along["target_rank"].tolist() == (read.target_rank[:, 0, 4] + 1).tolist()
    value = float(logits[4, right] - logits[4, wrong])
    lines = said(app.markdown)
    assert any(f"logit of “cat” less that of “dog” is {value:.6g}" in line for line in lines)
    _, heads = drawn.chart("residual/grid")
    assert heads["column"].tolist() == ["H0", "H1", "H2", "H3", "mlp"] * 2
    _, growth = drawn.chart("residual/growth")
    assert growth["running"].iloc[-1] == pytest.approx(value, abs=1e-5)
    _, promoted = drawn.chart("residual/tokens")
    assert set(promoted["component"]) == {"L1N7"}
    _, cache = model.run_with_cache(tokens[None])
    activation = float(cache["post", 1][0, 4, 7])
    assert any(f"Activation of L1N7 at position 4 (“on”): {activation:.4g}" in c
               for c in said(app.caption))  # fmt: skip
    chart, norms = drawn.chart("residual/norms/relative")
    assert chart.facet == "what" and chart.limits[0] == 0 and norms["position"].min() == 1
    row = norms[(norms["what"] == "MLP") & (norms["layer"] == 1) & (norms["position"] == 3)]
    ratio = cache["mlp_out", 1][0, 3].norm() / cache["resid_pre", 1][0, 3].norm()
    assert row["relative"].item() == pytest.approx(ratio.item(), abs=1e-5)
    drawn.check_scripts()


def test_interventions_change_it_and_the_scripts(open_page, model, drawn):
    edits = "zero:L0H1; scale:L1MLP*0.5"
    app = open_page("residual", prompt=PROMPT, edits=edits, edited="1", by="head")
    assert not app.error and not app.warning, said([*app.error, *app.warning])
    tokens, plain = direct_logits(model)
    hooks = [
        ("blocks.0.attn.hook_z", lambda z, hook: z.index_fill(2, torch.tensor([1]), 0.0)),
        ("blocks.1.hook_mlp_out", lambda x, hook: 0.5 * x),
    ]
    with torch.no_grad():
        edited = model.run_with_hooks(tokens[None], fwd_hooks=hooks)[0, -1]
    assert not torch.allclose(edited, plain[-1], atol=1e-3)
    value = float(edited.max() - edited.mean())
    assert any(f"sum to {value:.6g}" in line for line in said(app.markdown))
    _, grid = drawn.chart("residual/grid")
    assert grid.set_index("component")["contribution"]["L0H1"] == 0
    assert drawn.check_scripts() == 8


def test_an_edit_of_the_stream_is_said(open_page):
    """What a steering vector adds is in the logit and in no component."""
    app = open_page("residual", prompt=PROMPT, edits="scale:L1.resid_pre*1.5", edited="1")
    assert not app.error
    assert len(app.warning) == 2
    assert all("is no component" in warning for warning in said(app.warning))


def test_a_long_prompt_is_read_in_part(open_page, tmp_path, make_model, word_tokenizer, drawn):
    model = make_model(word_tokenizer, d_vocab=13, n_ctx=64, model_name="long", seed=5)
    path = model.save(tmp_path / "long")
    prompt = " ".join(["the cat sat on a mat"] * 5)
    app = open_page("residual", models=(path,), model=str(path), prompt=prompt)
    assert not app.error
    _, lens = drawn.chart("residual/lens")
    assert lens["position"].unique().tolist() == list(range(11, 31))
    app.number_input(key="residual/first").set_value(2).run()
    app.number_input(key="residual/width").set_value(3).run()
    tables = [t for key, (_, t, _) in drawn.charts.items() if key.startswith("residual/lens")]
    assert tables[-1]["position"].unique().tolist() == [2, 3, 4]
    assert any("Position 30 is not among those drawn" in c for c in said(app.caption))
    assert (app.query_params["first"], app.query_params["width"]) == ("2", "3")


def test_every_component_is_listed_on_request(open_page, drawn):
    app = open_page("residual", prompt=PROMPT)
    app.session_state["residual/all"] = True
    app.run()
    (frame, _) = drawn.tables["residual/table"]
    assert frame["share"].sum() == pytest.approx(1.0, abs=1e-5)
    assert frame["component"].tolist()[-2:] == ["ln_final.b", "b_U"]
    drawn.check_scripts()


@pytest.mark.parametrize(
    ("kind", "address", "says"),
    [
        ("bert", {}, "head='lm'"),
        ("next-sentence", {}, "reads one vector for the whole sequence"),
        ("marian", {"stack": "encoder"}, "the encoder's has no logit lens"),
        ("marian", {"by": "head"}, None),
    ],
)
def test_models_of_other_kinds(open_page, tmp_path, make_model, drawn, kind, address, says):
    model = make_model(**KINDS[kind], model_name="other")
    path = model.save(tmp_path / "other")
    second = {"decoder": "2 7 1"} if kind == "marian" else {}
    app = open_page("residual", models=(path,), model=str(path), prompt="3 1 4 1 5",
                    **second, **address)  # fmt: skip
    assert not app.error and not app.warning, said(app.error)
    if says is not None:
        assert any(says in each for each in said(app.info)), said(app.info)
    keys = {key.split("/")[1] for key in drawn.charts}
    assert "norms" in keys
    assert ("lens" in keys) == (kind == "bert" or (kind == "marian" and not says))
    assert ("grid" in keys) == (kind == "marian" and not says)
    drawn.check_scripts()


def test_clicks(monkeypatch):
    """A cell of the lens chooses its position, one of the grid its component."""
    kept = {}
    choices = SimpleNamespace(keep=kept.__setitem__)
    state = {"key": {"selection": {"points": [{"customdata": ["H2", 1, "H2", "1"]}]}}}
    monkeypatch.setattr(st, "session_state", state)
    names = {("H2", 1): "L1H2"}
    picking.pick(choices, "key", lambda x, y: {"component": names[x, int(y)]})
    picking.pick(choices, "key", lambda x, y: {"position": y})
    assert kept == {"component": "L1H2", "position": "1"}
    state["key"]["selection"]["points"] = []
    picking.pick(choices, "key", lambda x, y: {"position": "never"})
    assert kept["position"] == "1"


def test_wrong_addresses_are_messages(open_page):
    app = open_page("residual", prompt=PROMPT, position="99", component="<b>L9</b>", neuron="3")
    assert not app.exception
    warnings = said(app.warning)
    assert any("There is no position '99' here" in each for each in warnings)
    assert any("<b>L9</b>" in each for each in warnings)
    assert any("does not know 'neuron'" in each for each in warnings)
    app = open_page("residual", prompt=PROMPT, answer="cat", rival="cat")
    assert said(app.error) == ["the wrong answer must differ from “cat”."]
