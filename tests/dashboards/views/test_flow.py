"""The information flow page, drawn by Streamlit without a browser."""

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
from analyses.attribution.contributions import promoted_tokens
from dashboards.views import flow
from interp.attribution import stream_importance
from interp.charts.tokens import visible
from tests.dashboards.screen import PROMPT, figures, html, said, table
from tests.dashboards.scripts import run_script
from tests.interp.kinds import everything

N = 9  # tokens, BOS included


def traced(model, threshold=0.04, position=N - 1, **changed):
    tokens = model.to_tokens(PROMPT)[0].tolist()
    return run_analysis(
        "information-flow", model, tokens=tokens, positions=[position], threshold=threshold,
        **changed,
    )  # fmt: skip


def traces(figure, name):
    return [trace for trace in figure["data"] if trace.get("name") == name]


def drawn_edges(figure):
    """How many edges each kind has: lines end with a gap."""
    return {
        kind: sum(
            int(np.isnan(np.array(trace["x"], dtype=float)).sum())
            for trace in traces(figure, kind)
            if len(trace["x"]) > 1
        )
        for kind in ("residual", "attention", "MLP")
    }


def test_an_empty_address_traces_the_last_position(open_page, model):
    app = open_page("flow", prompt=PROMPT)
    assert not app.error
    assert not app.warning
    result = traced(model)
    nodes, edges = result.tables["nodes"], result.tables["edges"]
    graph = figures(app)["flow/graph/4/8"]
    kinds = edges["kind"].value_counts()
    assert drawn_edges(graph) == {kind: kinds.get(kind, 0) for kind in drawn_edges(graph)}
    reached = nodes[nodes["on_route"]]
    (points,) = traces(graph, "on the routes")
    assert points["customdata"] == reached[["level", "position"]].to_numpy().tolist()
    assert list(points["x"]) == reached["position"].tolist()
    assert list(points["y"]) == reached["level"].tolist()
    (others,) = traces(graph, "off the routes")
    assert len(others["x"]) == len(nodes) - len(reached)
    (chosen,) = traces(graph, "chosen")
    assert (list(chosen["x"]), list(chosen["y"])) == ([8], [4])
    layout = graph["layout"]
    assert layout["yaxis"]["ticktext"] == ["0_pre", "0_mid", "0_post", "1_mid", "1_post"]
    assert list(layout["xaxis"]["tickvals"]) == list(range(N))
    texts = result.provenance.str_tokens[0]
    shown = [text.replace("&lt;", "<").replace("&gt;", ">") for text in layout["xaxis"]["ticktext"]]
    assert shown == [visible(text) for text in texts]
    with torch.no_grad():
        best = model(model.to_tokens(PROMPT))[0, -1].softmax(-1).max(0)
    (above,) = layout["annotations"]
    word = model.to_single_str_token(int(best.indices))
    assert above["text"].replace("&#36;", "$") == f"predicts {visible(word)} ({best.values:.0%})"
    bars = figures(app)["flow/tokens"]["data"][0]
    first = nodes[nodes["level"] == 0]["flow"]
    np.testing.assert_allclose(bars["y"], first, atol=1e-6)
    query = app.query_params
    assert (query["position"], query["stream"], query["at"]) == ("8", "4", "8")
    kept = result.tables["nodes"].query("level == 0")["kept"].sum()
    assert f"Edges above the threshold carry {kept:.0%} of it" in html(app)


def test_a_deep_link_opens_one_node(open_page, model):
    app = open_page(
        "flow", prompt=PROMPT, position="5", threshold="0.2", width="flow", stream="3", at="4",
        component="L1H2",
    )  # fmt: skip
    assert not app.error
    assert not app.warning
    edges = traced(model, 0.2, 5).tables["edges"]
    assert sum(drawn_edges(figures(app)["flow/graph/3/4"]).values()) == len(edges)
    assert any("Inside 1_mid at position 4" in text for text in said(app.subheader))
    tokens = model.to_tokens(PROMPT)
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=everything)
    stream = stream_importance(cache)[2]
    heads = figures(app)["flow/heads"]
    grid = next(trace for trace in heads["data"] if trace["type"] == "heatmap")
    np.testing.assert_allclose(
        np.array(grid["z"], dtype=float), stream.heads[0, :, 4, :5].numpy(), atol=1e-6
    )
    # The scale is that of what is there: shares of one head and source are mostly small.
    assert heads["layout"]["coloraxis"].get("cmax", 0.0) < 1
    bars = figures(app)["flow/promoted"]["data"][0]
    expected = promoted_tokens(model, "L1H2", 4, 10, input=tokens)["contribution"]
    np.testing.assert_allclose(bars["y"], expected, atol=1e-5)
    parts = " ".join(said(app.markdown))
    assert f"the stream before {float(stream.residual[0, 4]):.1%}" in parts
    assert f"attention {float(stream.heads[0, :, 4].sum()):.1%}" in parts
    assert "interventions" not in parts


def test_every_widget_does_what_it_says(open_page, model):
    app = open_page("flow", prompt=PROMPT)
    before = figures(app)["flow/graph/4/8"]
    edges = traced(model).tables["edges"]
    for width in ("importance", "flow"):
        app.selectbox(key="flow/width").set_value(width).run()
        of_kind = edges[edges["kind"] == "attention"]
        lines = traces(figures(app)["flow/graph/4/8"], "attention")
        shown = sorted(trace["line"]["width"] for trace in lines if len(trace["x"]) > 1)
        # Seven widths, of values up to 1/7, 2/7, …: the thickest is 7 pixels.
        steps = sorted(set(np.ceil(of_kind[width] * 7)))
        np.testing.assert_allclose(shown, [0.8 + 6.2 * step / 7 for step in steps])
    app.slider(key="flow/threshold").set_value(0.3).run()
    graph = figures(app)["flow/graph/4/8"]
    assert sum(drawn_edges(graph).values()) == len(traced(model, 0.3).tables["edges"])
    assert sum(drawn_edges(graph).values()) < sum(drawn_edges(before).values())
    app.selectbox(key="flow/position").set_value(3).run()
    # The node that is looked into follows the traced position until one is chosen.
    assert list(figures(app)["flow/graph/4/3"]["layout"]["xaxis"]["tickvals"]) == list(range(N))
    app.selectbox(key="flow/stream").set_value(1).run()
    app.selectbox(key="flow/at").set_value(2).run()
    assert any("Inside 0_mid at position 2" in text for text in said(app.subheader))
    app.selectbox(key="flow/component").set_value("L0H0").run()
    assert "Tokens that L0H0 writes towards" in html(app)
    assert not app.error
    assert not app.exception
    query = app.query_params
    assert query["threshold"] == "0.3"
    assert (query["position"], query["stream"], query["at"]) == ("3", "1", "2")


def test_a_component_that_is_not_there_is_told(open_page):
    app = open_page("flow", prompt=PROMPT, stream="1", component="0_attn_out")
    assert said(app.warning) == [
        "There is no component '0_attn_out' here. Shown: L0 attention, all heads."
    ]
    assert "Tokens that L0ATTN writes towards" in html(app)
    assert not app.error


@pytest.mark.parametrize(("point", "chosen"), [([3, 5], ("3", "5")), ([0, 2], ("1", "2"))])
def test_a_click_chooses_the_node(monkeypatch, point, chosen):
    """The tokens' own row holds no sum: a click there looks at the stream above it."""
    kept = {}
    choices = SimpleNamespace(keep=kept.__setitem__)
    state = {"picture": {"selection": {"points": [{"x": 1.0}, {"customdata": point}]}}}
    monkeypatch.setattr(st, "session_state", state)
    flow._pick(choices, "picture")
    assert (kept["stream"], kept["at"]) == chosen


def test_scripts_make_the_tables_of_the_page(open_page, model, monkeypatch):
    shown = {}

    def keep(name):
        def take(*given, code=None, **more):
            frame = given[1] if name == "chart" else given[0]
            key = given[2] if name == "chart" else given[1]
            shown[key] = (frame, code if code is not None else given[3])

        return take

    monkeypatch.setattr("dashboards.drawing.figures.chart", keep("chart"))
    monkeypatch.setattr("dashboards.drawing.figures.table", keep("table"))
    app = open_page("flow", prompt=PROMPT, stream="3", at="4")
    assert not app.error
    app = open_page("flow", prompt=PROMPT, stream="4", at="4")
    assert not app.error
    assert set(shown) == {"flow/tokens", "flow/heads", "flow/neurons", "flow/promoted"}
    for key, (frame, code) in shown.items():
        found = run_script(code)
        assert list(found.columns) == list(frame.columns), key
        assert len(found) == len(frame) > 0
        for column in frame.columns:
            if frame[column].dtype.kind == "f":
                np.testing.assert_allclose(found[column], frame[column], atol=1e-5, err_msg=key)
            else:
                assert found[column].tolist() == frame[column].tolist(), (key, column)


def test_files_of_the_picture(open_page, model):
    app = open_page("flow", prompt=PROMPT, threshold="0.1")
    assert not app.code
    app.session_state["flow/graph/data"] = True
    app.run()
    code = app.code[0].value
    found, shown = run_script(code), table(app, "importance")
    edges = traced(model, 0.1).tables["edges"]
    assert found["source"].tolist() == shown["source"].tolist() == edges["source"].tolist()
    np.testing.assert_allclose(found["flow"], shown["flow"], atol=1e-6)


def test_stills_of_the_picture_carry_its_alternative(model):
    result = traced(model, 0.1)
    tables = result.tables
    routes = SimpleNamespace(positions=(8,), threshold=0.1)
    still = flow.Still(
        tables["nodes"], tables["edges"], "flow", {8: "predicts $x$ (3%)"}, "Seen <so>.", routes
    )
    svg = still.file("svg").decode()
    assert "<desc>Seen &lt;so&gt;.</desc>" in svg
    assert "<title>Routes to position 8, above 0.1</title>" in svg
    assert still.file("png").startswith(b"\x89PNG")
    page = still.file("html").decode()  # as every other page: it runs nothing, and has the numbers
    assert "<script" not in page and svg[svg.index("<svg") :] in page
    assert "<figcaption>Seen &lt;so&gt;.</figcaption>" in page
    assert f"Download all {len(tables['edges'])} rows" in page


def test_errors_are_messages(open_page, mute_model, make_model, tmp_path):
    app = open_page("flow", prompt=PROMPT, position="77", threshold="7", stream="nowhere")
    assert not app.exception
    assert len(app.warning) == 3
    assert figures(app)["flow/graph/4/8"]
    app = open_page("flow")
    assert said(app.info) == ["Type a prompt at the side, and the model reads it."]
    app = open_page("flow", models=(mute_model,), prompt="1 2 3")
    assert figures(app)["flow/graph/4/2"]
    long = make_model(model_name="long", n_ctx=256).save(tmp_path / "long")
    app = open_page("flow", models=(long,), prompt=" ".join(["7"] * 129))
    assert said(app.error) == ["this page traces 128 tokens at most; these are 129"]
    both = make_model(
        model_name="both", architecture="encoder-decoder", positional_embedding_type="sinusoidal",
        decoder_start_token_id=0,
    ).save(tmp_path / "both")  # fmt: skip
    app = open_page("flow", models=(both,), prompt="1 2 3")
    assert "it reads two sequences (an encoder-decoder)" in said(app.error)[0]


def test_models_without_mlp_or_logits(open_page, make_model, tmp_path):
    heads = make_model(model_name="heads", attn_only=True, act_fn=None).save(tmp_path / "heads")
    app = open_page("flow", models=(heads,), prompt="1 2 3")
    assert not app.error
    assert "flow/neurons" not in figures(app)
    assert figures(app)["flow/heads"]
    classes = make_model(
        model_name="classes", architecture="encoder", head="classification", d_vocab_out=3
    ).save(tmp_path / "classes")
    app = open_page("flow", models=(classes,), prompt="1 2 3")
    assert not app.error
    assert figures(app)["flow/graph/4/0"]  # it reads the first position
    assert any("no tokens to tell" in text for text in said(app.caption))
