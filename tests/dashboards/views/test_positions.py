from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from analyses import run_analysis
from analyses.registry import get_analysis
from dashboards.views.positions import VIEWS, measured
from interp.position_effects import bias_curves
from tests.dashboards.screen import PROMPT, figures, said
from tests.dashboards.scripts import run_script

ANALYSES = [name for name in VIEWS if name != "encoding"]


@pytest.fixture
def drawn(monkeypatch):
    """What a page draws: the table, the script and the chart of each figure, by key."""
    from dashboards.drawing import figures as real

    found, chart = {}, real.chart

    def draw(spec, frame, key, *given, **more):
        found[key] = (frame, more.get("code"), spec)
        chart(spec, frame, key, *given, **more)

    monkeypatch.setattr(real, "chart", draw)
    return found


@pytest.fixture
def encoded(make_model, tmp_path):
    """The directory of a small model with this encoding."""

    def make(kind, **fields):
        model = make_model(model_name=kind, positional_embedding_type=kind, **fields)
        return model, model.save(tmp_path / kind)

    return make


def same(found, frame, key):
    assert set(frame.columns) <= set(found.columns), key
    for column in frame.columns:
        if frame[column].dtype.kind == "f":
            np.testing.assert_allclose(found[column], frame[column], atol=1e-5, err_msg=key)
        else:
            assert found[column].tolist() == frame[column].tolist(), (key, column)


@torch.no_grad()
def test_vectors_by_their_cosines_spectrum_and_components(open_page, model, drawn):
    app = open_page("positions", prompt=PROMPT, n="10")
    assert not app.error and not app.warning
    shown = figures(app)
    W_pos = model.W_pos[:10].double()
    unit = W_pos / W_pos.norm(dim=-1, keepdim=True)
    heatmap = shown["positions/cosines/None"]
    np.testing.assert_allclose(heatmap["data"][0]["z"], (unit @ unit.T).numpy(), atol=1e-6)
    axis = heatmap["layout"]["coloraxis"]
    assert (axis["cmin"], axis["cmax"]) == (-1, 1)
    assert heatmap["layout"]["yaxis"]["scaleanchor"] == "x"
    # The spectrum of what a straight line leaves, over the power of all.
    centred = (W_pos - W_pos.mean(0)).numpy()
    t = np.arange(10) - 4.5
    left = centred - np.outer(t, t @ centred) / (t @ t)
    power = np.abs(np.fft.rfft(left, axis=0)) ** 2
    power[1:5] *= 2  # both signs of a frequency
    share = power.sum(1)[1:] / 10 / (centred**2).sum()
    np.testing.assert_allclose(shown["positions/waves/None"]["data"][0]["y"], share, atol=1e-8)
    singular = np.linalg.svd(centred, compute_uv=False) ** 2
    name = f"component 1 ({singular[0] / singular.sum():.0%})"
    paths = shown["positions/paths/None"]["data"]
    assert paths[0]["name"] == name and len(paths) == 3
    assert np.square(paths[0]["y"]).sum() == pytest.approx(singular[0], rel=1e-5)
    app.number_input(key="positions/n").set_value(7).run()
    assert app.query_params["n"] == "7"
    assert len(drawn["positions/cosines/None"][0]) == 49
    for key, (frame, code, _) in drawn.items():
        same(run_script(code), frame, key)


@torch.no_grad()
def test_rotary_angles_and_bias_curves(open_page, encoded, drawn):
    _, path = encoded("rotary", rotary_dim=6, rotary_base=100.0)
    app = open_page("positions", models=(path,), prompt="1 2", n="6", layer="1")
    assert not app.error and not app.warning
    z = figures(app)["positions/angles"]["data"][0]["z"]
    speeds = [100.0 ** (-2 * i / 6) for i in range(3)]
    expected = [[math.cos(speed * d) for d in range(6)] for speed in speeds]
    np.testing.assert_allclose(z, expected, atol=1e-8)
    axis = figures(app)["positions/angles"]["layout"]["coloraxis"]
    assert (axis["cmin"], axis["cmax"]) == (-1, 1)
    for kind in ("alibi", "relative_positional_bias"):
        model, path = encoded(kind)
        app = open_page("positions", models=(path,), prompt="1 2", n="8")
        assert not app.error and not app.warning
        lines = figures(app)["positions/biases/None"]["data"]
        curves = bias_curves(model, 8).curve
        assert [line["name"] for line in lines] == ["H0", "H1", "H2", "H3"]
        for line, curve in zip(lines, curves, strict=True):
            np.testing.assert_allclose(line["y"], curve.numpy(), atol=1e-6)
        key = "positions/biases/None"
        same(run_script(drawn[key][1]), drawn[key][0], key)
    same(run_script(drawn["positions/angles"][1]), drawn["positions/angles"][0], "angles")


def test_models_without_an_encoding_and_with_two_stacks(open_page, encoded, make_model, tmp_path):
    _, path = encoded("none")
    app = open_page("positions", models=(path,), prompt="1 2")
    assert "no encoding of positions" in said(app.info)[0] and not app.error
    both = make_model(
        model_name="both", architecture="encoder-decoder", decoder_start_token_id=0,
        positional_embedding_type="standard",
    )  # fmt: skip
    path = both.save(tmp_path / "both")
    app = open_page("positions", models=(path,), prompt="1 2", part="encoder", n="5")
    assert not app.error and not app.warning
    W_pos = both.encoder.pos_embed.W_pos[:5].detach().double()
    unit = W_pos / W_pos.norm(dim=-1, keepdim=True)
    found = figures(app)["positions/cosines/encoder"]["data"][0]["z"]
    np.testing.assert_allclose(found, (unit @ unit.T).numpy(), atol=1e-6)
    app = open_page("positions", models=(path,), prompt="1 2", view="probes")
    assert "does not fit" in said(app.info)[0]
    assert "positions/run" not in [each.key for each in app.button]


def test_every_aspect_is_an_analysis_whose_first_figures_exist(open_page, monkeypatch):
    monkeypatch.setattr("dashboards.runs.running.run_analysis", _refuse)
    for name in ANALYSES:
        app = open_page("positions", prompt=PROMPT, view=name)
        analysis = get_analysis(measured.ASPECTS[name].analysis)
        # Nothing runs unless it is asked for.
        assert not app.error and not app.get("plotly_chart")
        assert app.button(key="positions/run").label == "Run"
        texts = said([*app.markdown, *app.caption])
        assert f"**{analysis.question}**" in texts and analysis.caveat in texts
        link = app.get("page_link")[0].proto
        assert link.page == analysis.name


def _refuse(*given, **more):
    raise AssertionError("an analysis was run")


def test_an_analysis_runs_when_asked_and_stays(open_page, drawn):
    app = open_page("positions", models=("zoo:copy-rotary",), prompt="a b", view="attention")
    app.button(key="positions/run").click().run()
    assert not app.exception and not app.error and not app.warning
    assert app.query_params["ran"] == "attention-quick"
    assert app.query_params["ran_on"] == "zoo:copy-rotary"
    assert "positions/run" not in [each.key for each in app.button]
    from interp import load_model

    model = load_model("zoo:copy-rotary").eval()
    result = run_analysis("position-attention", model, quick=True)
    first = [name for name in measured.ASPECTS["attention"].first if name in result.figures]
    assert list(drawn) and {f"positions/attention/{name}" for name in first} == set(drawn)
    z = figures(app)["positions/attention/offset-r2"]["data"][0]["z"]
    expected = result.tables["heads"].pivot(index="layer", columns="head", values="offset_r2")
    np.testing.assert_allclose(z, expected.to_numpy(), atol=1e-5)
    same(run_script(drawn["positions/attention/offset-r2"][1]), result.tables["heads"], "heads")
    # Other figures are chosen by name, and held when the reader looks elsewhere.
    app.multiselect(key="positions/figures_attention").set_value(["rotary"]).run()
    assert set(figures(app)) == {"positions/attention/rotary"}
    app.selectbox(key="positions/view").select("encoding").run()
    assert not app.warning and app.query_params["figures_attention"] == "rotary"
    app.selectbox(key="positions/view").select("attention").run()
    assert set(figures(app)) == {"positions/attention/rotary"} and not app.warning
    # In full it has not been run.
    app.selectbox(key="positions/extent").select("full").run()
    assert not app.get("plotly_chart") and app.button(key="positions/run")


def test_an_address_runs_what_it_names_on_that_model_alone(open_page, drawn):
    query = {"prompt": "a b", "view": "length", "ran": "length-quick", "ran_on": "zoo:copy-alibi"}
    app = open_page("positions", models=("zoo:copy-alibi",), **query)
    assert not app.error and not app.warning
    assert "positions/length/accuracy-by-length" in figures(app)
    assert any("checks passed" in each for each in said(app.caption))
    query["ran_on"] = "zoo:copy-rotary"
    app = open_page("positions", models=("zoo:copy-alibi",), **query)
    assert not app.get("plotly_chart") and app.button(key="positions/run")


def test_failed_checks_and_faults_are_messages(open_page, monkeypatch, model):
    from dataclasses import replace

    from analyses.results.result import Check
    from interp import InputError

    def failing(name, model, interventions, quick):
        result = run_analysis(name, model, quick=quick)
        return replace(result, checks=[Check(name="two-ways", value=1.0, tolerance=0.1)])

    monkeypatch.setattr("dashboards.runs.running.run_analysis", failing)
    query = {"view": "attention", "ran": "attention-quick"}
    app = open_page("positions", prompt=PROMPT, **query)
    query["ran_on"] = app.selectbox(key="shared/model").value
    app = open_page("positions", prompt=PROMPT, **query)
    assert said(app.error) == ["Checks failed: two-ways."] and app.get("plotly_chart")

    def refusing(name, model, interventions, quick):
        raise InputError("rows must differ: <b>$all$</b>.")

    import streamlit as st

    st.cache_resource.clear()
    monkeypatch.setattr("dashboards.runs.running.run_analysis", refusing)
    app = open_page("positions", prompt=PROMPT, **query)
    assert said(app.error) == ["rows must differ: <b>$all$</b>."]
    app = open_page("positions", prompt=PROMPT, n="1000", view="encoding", strange="1")
    assert len(app.warning) == 2 and not app.error


def test_a_run_that_takes_too_long_goes_to_the_background(open_page, monkeypatch):
    """The model's lock is held no longer than a page may take."""
    monkeypatch.setattr("dashboards.runs.running.SECONDS", 0.0)
    name = "zoo:copy-rotary"
    query = {"view": "attention", "extent": "full", "ran": "attention-full", "ran_on": name}
    app = open_page("positions", models=(name,), prompt="a b", **query)
    assert not app.error and not app.get("plotly_chart")
    assert "Run it in the background" in said(app.warning)[0]
    pages = [each.proto for each in app.get("page_link")]
    assert [each.page for each in pages] == ["position-attention"] * 2
    assert "background" in pages[1].label
