from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from dashboards.views.weights import VIEWS, controls, heads
from interp.weight_circuits import (
    composition_baseline,
    composition_scores,
    copying_scores,
    cross_ov_circuit,
    ov_circuit,
    qk_circuit,
)
from interp.weight_circuits.directions import block_directions
from tests.dashboards.conftest import WORDS
from tests.dashboards.screen import PROMPT, figures, said
from tests.dashboards.scripts import run_script


@pytest.fixture
def drawn(monkeypatch):
    """What a page draws: its tables and scripts by key, as figures and tables are drawn."""
    from dashboards.drawing import figures as real

    found = {}
    chart, table = real.chart, real.table

    def draw_chart(spec, frame, key, *given, **more):
        found[key] = (frame, more.get("code"), spec)
        chart(spec, frame, key, *given, **more)

    def draw_table(frame, key, name, code=None):
        found.setdefault(key, (frame, code, None))
        table(frame, key, name, code)

    monkeypatch.setattr(real, "chart", draw_chart)
    monkeypatch.setattr(real, "table", draw_table)
    return found


def select(app, name, value):
    app.selectbox(key=f"weights/{name}").select(value).run()
    assert not app.exception and not app.error
    return app


def spectrum(left, right):
    return torch.linalg.svdvals(left.double() @ right.double())


@torch.no_grad()
def test_all_heads_and_the_spectrum_of_one(open_page, model):
    app = open_page("weights", prompt=PROMPT)
    assert not app.error and not app.warning
    assert app.get("page_link")[0].proto.page == "weight-circuits"
    scores = copying_scores(model, less_mean=True)
    shown = figures(app)
    heatmap, points = shown["weights/map/copying_score/self/0/0"]["data"]
    np.testing.assert_allclose(heatmap["z"], scores.score.numpy(), atol=1e-6)
    layout = shown["weights/map/copying_score/self/0/0"]["layout"]
    assert (layout["coloraxis"]["cmin"], layout["coloraxis"]["cmax"]) == (-1, 1)
    assert layout["xaxis"]["title"]["text"] == "head"
    assert layout["yaxis"]["title"]["text"] == "layer"
    # A click is told by the head, then the layer.
    assert [list(each)[:2] for each in points["customdata"]] == [
        [head, layer] for layer in range(2) for head in range(4)
    ]
    vectors = shown["weights/eigenvalues/L0H0"]["data"][0]
    values = scores.eigenvalues[0, 0]
    values = values[values.abs().argsort(descending=True)]
    # From the origin and back: the second of every three.
    np.testing.assert_allclose(vectors["x"][1::3], values.real.numpy(), atol=1e-9)
    np.testing.assert_allclose(vectors["y"][1::3], values.imag.numpy(), atol=1e-9)
    _, outline = layout["shapes"]
    assert [outline[end] for end in ("x0", "x1", "y0", "y1")] == [-0.5, 0.5, -0.5, 0.5]
    axes = shown["weights/eigenvalues/L0H0"]["layout"]
    assert axes["xaxis"]["range"][0] == -axes["xaxis"]["range"][1]
    assert axes["yaxis"]["scaleanchor"] == "x"
    frames = next(block_directions(model, 0)).vectors.view(4, 6, 24)
    sizes = shown["weights/singular/self/L0H0"]["data"][0]["y"]
    np.testing.assert_allclose(sizes, frames[0].norm(dim=-1).numpy(), rtol=1e-5)


@torch.no_grad()
def test_each_measure_and_another_head(open_page, model):
    app = open_page("weights", prompt=PROMPT, layer="1", head="3")
    scores = copying_scores(model, less_mean=True)
    expected = {
        "eigenvalue_share": scores.eigenvalue_share,
        "own_logit": scores.trace / len(WORDS),
        "contrast": scores.contrast,
        "norm": scores.norm,
    }
    for measure, values in expected.items():
        app = select(app, "measure", measure)
        shown = figures(app)[f"weights/map/{measure}/self/1/3"]
        np.testing.assert_allclose(shown["data"][0]["z"], values.numpy(), rtol=1e-5)
        axis = shown["layout"]["coloraxis"]
        signed = measure in ("own_logit", "contrast")
        assert axis["cmin"] == (-axis["cmax"] if signed else 0)
    # The same from one layer on when tokens are read as the first MLP leaves them.
    app.toggle(key="weights/effective").set_value(True).run()
    later = copying_scores(model, effective=True, less_mean=True).norm
    found = figures(app)["weights/map/norm/self/1/3"]["data"][0]["z"]
    np.testing.assert_allclose(found, later.numpy(), rtol=1e-5)
    assert not torch.allclose(later[1], scores.norm[1]) and app.query_params["effective"] == "1"
    for measure in ("ov_norm", "ov_dimensions", "qk_norm", "qk_dimensions"):
        app = select(app, "measure", measure)
    z = figures(app)["weights/map/qk_dimensions/self/1/3"]["data"][0]["z"]
    attn, norm = model.blocks[1].attn, model.blocks[1].ln1
    front = (torch.eye(24) - 1 / 24).double() @ torch.diag(norm.w.double())
    found = spectrum(front @ attn.W_Q[3].double(), (front @ attn.W_K[3].double()).T)
    assert z[1][3] == pytest.approx(float(found.square().sum() ** 2 / found.pow(4).sum()), rel=1e-5)


def test_a_click_chooses_the_head(monkeypatch):
    kept = {}

    class Kept:
        keep = staticmethod(kept.__setitem__)

    point = {"customdata": [3, 1, "3", "1"]}
    state = {"map": {"selection": {"points": [point]}}}
    monkeypatch.setattr(controls.st, "session_state", state)
    controls.pick_head(Kept, "map")
    assert kept == {"layer": "1", "head": "3"}


def test_the_share_of_positive_eigenvalues():
    assert heads.positive_share(pd.DataFrame({"real": [3.0, 1.0, -1.0, 0.0]})) == 0.8
    assert heads.positive_share(pd.DataFrame({"real": [0.0, 0.0]})) == 0.5


@torch.no_grad()
def test_pairs_are_the_extremes_of_the_dense_circuits(open_page, model, drawn):
    app = open_page("weights", prompt=PROMPT, view="pairs", layer="1", head="2", k="3")
    assert not app.error and not app.warning
    ov = ov_circuit(model, 1, 2).AB.double()
    ov = ov - ov.mean(-1, keepdim=True)
    flat = ov.flatten().sort(descending=True)
    rows = drawn["weights/moved/L1H2"][0]
    wanted = torch.cat([flat.values[:3], flat.values[-3:]])
    np.testing.assert_allclose(rows["logit"], wanted.numpy(), atol=1e-5)
    for i, place in enumerate([*flat.indices[:3].tolist(), *flat.indices[-3:].tolist()]):
        source, output = divmod(place, len(WORDS))
        assert rows["pair"][i] == f"{WORDS[source]}→{WORDS[output]}"
    bars = figures(app)["weights/moved/L1H2"]
    np.testing.assert_allclose(bars["data"][0]["y"], rows["logit"])
    assert bars["layout"]["xaxis"]["ticktext"][0] == rows["pair"][0].replace("<", "&lt;").replace(
        ">", "&gt;"
    ).replace("$", "&#36;")
    qk = qk_circuit(model, 1, 2, scaled=True).AB.double()
    best = (qk - qk.mean(-1, keepdim=True)).flatten().topk(3)
    asked = drawn["weights/sought/L1H2"][0]
    np.testing.assert_allclose(asked["score"], best.values.numpy(), atol=1e-5)
    destination, source = divmod(int(best.indices[0]), len(WORDS))
    assert asked["pair"][0] == f"{WORDS[destination]}←{WORDS[source]}"
    # The strongest triple is among those of all tokens, tried one by one.
    trigrams = drawn["weights/trigrams/L1H2"][0]
    products = (qk - qk.mean(-1, keepdim=True)).clamp(min=0)[:, :, None] * ov[None]
    assert trigrams["strength"][0] == pytest.approx(float(products.max()), rel=1e-4)
    app.number_input(key="weights/k").set_value(5).run()
    assert len(drawn["weights/moved/L1H2"][0]) == 10 and app.query_params["k"] == "5"


@torch.no_grad()
def test_pairs_of_one_token(open_page, model, drawn):
    app = open_page("weights", prompt=PROMPT, view="pairs", of_token="cat", k="2")
    assert not app.error and not app.warning
    cat = WORDS.index("cat")
    row = ov_circuit(model, 0, 0, less_mean=True).AB[cat]
    moved = drawn["weights/moved/L0H0"][0]
    assert set(moved["source"]) == {"cat"} and len(moved) == 4
    assert moved["logit"][0] == pytest.approx(float(row.max()), abs=1e-5)
    assert moved["output"][3] == WORDS[int(row.argmin())]
    scores = qk_circuit(model, 0, 0, scaled=True).AB[cat]
    sought = drawn["weights/sought/L0H0"][0]
    assert set(sought["destination"]) == {"cat"}
    assert sought["source"][0] == WORDS[int(scores.argmax())]
    for key in ("weights/moved/L0H0", "weights/sought/L0H0"):
        found = run_script(drawn[key][1])
        assert found["pair"].tolist() == drawn[key][0]["pair"].tolist()
    app.text_input(key="weights/of_token").set_value("no such token").run()
    assert said(app.error) and not app.exception


def test_a_token_of_a_classifier_is_one_that_it_reads(open_page, drawn):
    app = open_page("weights", models=("zoo:brackets",), view="pairs", of_token="(", k="2")
    assert not app.error and not app.warning, said(app.error)
    assert set(drawn["weights/sought/L0H0"][0]["destination"]) == {"("}
    assert "No OV pairs" in said(app.info)[0]


@torch.no_grad()
def test_compositions_as_a_map_a_pair_and_a_graph(open_page, model, drawn):
    app = open_page("weights", prompt=PROMPT, view="composition")
    assert not app.error and not app.warning
    panels = [x for x in figures(app)["weights/composition/excess/None/None"]["data"]
              if x["type"] == "heatmap"]  # fmt: skip
    excess = {}
    for mode, panel in zip("QKV", panels, strict=True):
        found = composition_baseline(model, mode, "permuted", 20, 0)
        excess[mode] = (found.scores - found.mean)[0, :, 1].numpy()
        np.testing.assert_allclose(np.array(panel["z"], float), excess[mode], atol=1e-6)
    axis = figures(app)["weights/composition/excess/None/None"]["layout"]["coloraxis"]
    assert (
        axis["cmax"]
        == -axis["cmin"]
        == pytest.approx(max(abs(x).max() for x in excess.values()), rel=1e-5)
    )
    # Its strongest pair is the one that is spelled out.
    mode = max(excess, key=lambda name: excess[name].max())
    first, second = divmod(int(excess[mode].argmax()), 4)
    shown = {each.label: each.value for each in app.selectbox}
    assert shown["Earlier head"] == f"L0H{first}" and shown["Later head"] == f"L1H{second}"
    pair = drawn["weights/composition/pair"][0].set_index("through")
    assert pair["excess"][mode] == pytest.approx(float(excess[mode].max()), abs=1e-6)
    outlines = figures(app)["weights/composition/excess/None/None"]["layout"]["shapes"][::2]
    places = [[each["x0"] + 0.5, each["y0"] + 0.5] for each in outlines]
    assert places == [[second, first]] * 3 and [each["xref"] for each in outlines] == [
        "x", "x2", "x3",
    ]  # fmt: skip
    # A higher threshold draws fewer edges, those above it.
    every = np.concatenate([x.ravel() for x in excess.values()])
    step = app.slider(key="weights/threshold").step
    app.slider(key="weights/threshold").set_value(2 * step).run()
    edges = drawn["weights/composition/graph/excess"][0]
    np.testing.assert_allclose(
        edges["excess"], sorted(every[every >= 2 * step], reverse=True), atol=1e-6
    )
    app.multiselect(key="weights/through").set_value(["K"]).run()
    assert set(drawn["weights/composition/graph/excess"][0]["through"]) == {"K"}
    assert app.query_params["through"] == "K"
    app = select(app, "baseline", "rotated")
    turned = composition_baseline(model, "K", "rotated", 20, 0)
    app = select(app, "measure_of_pairs", "z")
    z = figures(app)["weights/composition/z/None/None"]["data"][0]["z"]
    np.testing.assert_allclose(np.array(z, float), turned.z[0, :, 1].numpy(), rtol=1e-4)


@torch.no_grad()
def test_many_heads_are_compared_without_a_baseline(open_page, model, drawn, monkeypatch):
    """Random weights would take minutes, and so many cells could not be clicked."""
    monkeypatch.setattr("dashboards.readings.weights.MOST_RANDOM_PRODUCTS", 1)
    monkeypatch.setattr("dashboards.views.weights.composition.MOST_CLICKABLE", 47)  # of 48
    monkeypatch.setattr("interp.charts.interactive.MOST_CLICKABLE", 47)
    app = open_page("weights", prompt=PROMPT, view="composition")
    assert not app.error and not app.warning
    assert app.selectbox(key="weights/baseline").value == "none"
    frame, code, spec = drawn["weights/composition/score/None/None"]
    scores = {mode: composition_scores(model, mode)[0, :, 1].numpy() for mode in "QKV"}
    found = frame.pivot(index=["through", "first_order"], columns="second_order", values="score")
    for mode, expected in scores.items():
        np.testing.assert_allclose(found.loc[mode].to_numpy(), expected, atol=1e-6)
    assert not spec.signed and "excess" not in frame
    pd.testing.assert_frame_equal(run_script(code), frame)
    traces = figures(app)["weights/composition/score/None/None"]["data"]
    assert [trace["type"] for trace in traces] == ["heatmap"] * 3
    pair = drawn["weights/composition/pair"][0]
    assert pair.columns.tolist() == ["through", "score"]
    assert pair["score"].max() == frame["score"].max()
    app.selectbox(key="weights/baseline").select("rotated").run()
    assert "20 sets of random weights for 8 heads would take minutes" in said(app.error)[0]


@torch.no_grad()
def test_neurons_of_a_layer_and_one_in_tokens(open_page, model, drawn):
    app = open_page("weights", prompt=PROMPT, view="neurons", layer="1", neuron="7", k="4")
    assert not app.error and not app.warning
    of = {each.kind: each.vectors for each in block_directions(model, 1)}
    points, ring = figures(app)["weights/neurons//1"]["data"]
    cosine = torch.cosine_similarity(of["W_in"], of["W_out"], dim=-1)
    strength = of["W_in"].norm(dim=-1) * of["W_out"].norm(dim=-1)
    np.testing.assert_allclose(points["x"], cosine.numpy(), atol=1e-6)
    np.testing.assert_allclose(points["y"], strength.numpy(), rtol=1e-5)
    assert points["text"][7] == "L1N7"
    assert list(ring["x"]) == [points["x"][7]] and list(ring["y"]) == [points["y"][7]]
    frame = drawn["weights/neuron/1/7"][0]
    assert len(frame) == 16 and set(frame["token"]) <= set(WORDS)
    # Without a choice, the strongest.
    app = open_page("weights", prompt=PROMPT, view="neurons")
    strength = torch.cat([each.vectors.norm(dim=-1)[None] for each in block_directions(model, 0)
                          if each.kind != "OV"]).prod(0)  # fmt: skip
    assert app.number_input(key="weights/neuron").value == int(strength.argmax())


@torch.no_grad()
def test_tokens_in_and_out(open_page, model, drawn, monkeypatch):
    app = open_page("weights", prompt=PROMPT, view="vocabulary", against="cosine", token="cat")
    assert not app.error and not app.warning
    points = figures(app)["weights/vocabulary/cosine"]["data"][0]
    frame = drawn["weights/vocabulary/cosine"][0]
    np.testing.assert_allclose(points["y"], frame["cosine"])
    assert points["text"][0] == "&lt;bos&gt;"
    rows = drawn["weights/bigrams"][0]
    assert set(rows["token"]) == {"cat"} and len(rows) == 8
    monkeypatch.setattr("dashboards.views.weights.vocabulary.MOST_UNASKED", 100)
    app.text_input(key="weights/token").set_value("").run()
    assert said(app.info)[0].startswith("Type a token") and len(app.get("plotly_chart")) == 1
    app.text_input(key="weights/token").set_value("no such token").run()
    assert said(app.error) and "weights/vocabulary/cosine" in figures(app)


def test_scripts_make_the_tables(open_page, drawn):
    views = [
        {"layer": "1", "head": "1", "effective": "1"},
        {"measure": "ov_norm"},
        {"measure": "qk_norm"},
        {"view": "pairs", "effective": "1", "layer": "1"},
        {"view": "composition", "through": "Q,V"},
        {"view": "neurons"},
        {"view": "vocabulary", "token": "cat"},
    ]
    for query in views:
        assert not open_page("weights", prompt=PROMPT, **query).error
    scripts = {key: of for key, of in drawn.items() if of[1] is not None}
    charts = {key for key, of in drawn.items() if of[2] is not None}
    assert charts <= set(scripts) and len(scripts) >= 12
    for key, (frame, code, _) in scripts.items():
        found = run_script(code)
        assert set(frame.columns) <= set(found.columns), key
        for column in frame.columns:
            if frame[column].dtype.kind == "f":
                np.testing.assert_allclose(found[column], frame[column], atol=1e-5, err_msg=key)
            else:
                assert found[column].tolist() == frame[column].tolist(), (key, column)


def test_choices_of_other_views_are_kept(open_page):
    app = open_page("weights", prompt=PROMPT, measure="ov_norm", layer="1")
    app = select(app, "view", "pairs")
    assert not app.warning
    assert app.query_params["measure"] == "ov_norm" and app.query_params["layer"] == "1"
    app = select(app, "view", "heads")
    assert app.selectbox(key="weights/measure").value == "ov_norm"
    app = select(app, "view", "vocabulary")
    assert not app.warning and app.query_params["layer"] == "1"


def test_faults_are_messages(open_page, monkeypatch, mute_model, make_model, tmp_path):
    app = open_page("weights", prompt=PROMPT, layer="7", measure="none", strange="1")
    assert len(app.warning) == 3 and not app.error
    app = open_page("weights", prompt=PROMPT, view="nothing")
    assert any("There is no view 'nothing' here" in each for each in said(app.warning))
    monkeypatch.setattr("dashboards.views.weights.pairs.MOST_UNASKED", len(WORDS) ** 2 - 1)
    app = open_page("weights", prompt=PROMPT, view="pairs")
    assert said(app.info)[0].startswith("Type a token") and not app.get("plotly_chart")
    assert app.toggle(key="weights/all_pairs").label == "Look through all 169 pairs of tokens"
    app.text_input(key="weights/of_token").set_value("cat").run()
    assert len(app.get("plotly_chart")) == 2 and not app.dataframe
    app.toggle(key="weights/all_pairs").set_value(True).run()
    assert len(app.get("plotly_chart")) == 2 and app.dataframe
    monkeypatch.setattr("dashboards.readings.weights.MOST_PRODUCTS", 100)
    app = open_page("weights", prompt=PROMPT, view="pairs", all_pairs="1", k="7")
    assert "a page makes" in said(app.error)[0]
    monkeypatch.setattr("dashboards.readings.weights.MOST_HEADS", 7)
    app = open_page("weights", prompt=PROMPT, view="composition")
    assert "a page compares 7 heads at most; this model has 8" in said(app.error)[0]
    small = make_model(model_name="small", n_layers=1, attn_only=True, act_fn=None)
    path = small.save(tmp_path / "small")
    for view, words in (("composition", "no head reads another"), ("neurons", "no neurons")):
        app = open_page("weights", models=(path,), prompt="1 2", view=view)
        assert words in said(app.info)[0] and not app.error


def test_models_without_a_tokenizer_and_with_two_stacks(
    open_page, drawn, mute_model, make_model, tmp_path
):
    for view in VIEWS:
        app = open_page("weights", models=(mute_model,), prompt="1 2 3", view=view)
        assert not app.error and not app.warning and figures(app)
    both = make_model(
        model_name="both", architecture="encoder-decoder", positional_embedding_type="sinusoidal",
        decoder_start_token_id=0,
    )  # fmt: skip
    path = both.save(tmp_path / "both")
    app = open_page("weights", models=(path,), prompt="1 2 3", heads_of="cross", layer="1")
    assert not app.error and "no eigenvalues" in said(app.info)[0]
    norms = figures(app)["weights/map/ov_norm/cross/1/0"]["data"][0]["z"]
    for layer, block in enumerate(both.decoder.blocks):
        frames = next(
            each for each in block_directions(both, layer, "decoder") if each.kind == "cross OV"
        ).vectors.view(4, -1, 24)
        np.testing.assert_allclose(norms[layer], frames.norm(dim=(1, 2)).numpy(), rtol=1e-5)
        assert block.crosses
    app = open_page(
        "weights", models=(path,), prompt="1 2 3", view="pairs", pairs_of="cross", layer="1"
    )
    assert not app.error and not app.warning
    frame, code, _ = drawn["weights/moved/L1H0"]
    circuit = cross_ov_circuit(both, 1, 0, less_mean=True).AB.detach()
    assert frame["logit"].max() == pytest.approx(float(circuit.max()), abs=1e-5)
    assert run_script(code)["pair"].tolist() == frame["pair"].tolist()
    frame, code, _ = drawn["weights/sought/L1H0"]
    assert run_script(code)["pair"].tolist() == frame["pair"].tolist()
    app = open_page("weights", models=(path,), prompt="1 2 3", layer="1")
    assert "weights/eigenvalues/L1H0" in figures(app)
    app = open_page("weights", models=(path,), prompt="1 2 3", view="neurons", neurons_of="encoder")
    assert not app.error and "encoder’s neuron" in said(app.info)[0]
