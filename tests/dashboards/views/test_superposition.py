"""The Superposition page: its sections, their widgets, figures beside the results' own tables."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest
import torch

pytest.importorskip("streamlit", reason="needs the extra 'dashboard'")
pytest.importorskip("plotly", reason="needs the extra 'dashboard'")
pytest.importorskip("seaborn", reason="needs the extra 'plots'")

from analyses import AnalysisResult, run_analysis
from analyses.results.storage import save
from analyses.superposition.families import families_of, phase_toy
from analyses.superposition.shipped import list_shipped, load_shipped
from dashboards import jobs
from dashboards.drawing import figures as page_figures
from dashboards.jobs import toy_snapshots
from dashboards.views.superposition import train
from interp.toys.measures import feature_dimensionality, feature_norms, superposition
from tests.dashboards.screen import figures, html, said
from tests.dashboards.scripts import run_script

SOLIDS = "shipped:solids-in-three-dimensions"


@pytest.fixture
def codes(monkeypatch):
    """The Python of every chart and table of a page, with the table that it makes, by key."""
    found = {}
    draw, show = page_figures.chart, page_figures.table

    def chart(drawn, table, key, *args, code=None, **more):
        found[key] = (code, table)
        return draw(drawn, table, key, *args, code=code, **more)

    def table(frame, key, name, code=None):
        found[key] = (code, frame)
        return show(frame, key, name, code)

    monkeypatch.setattr(page_figures, "chart", chart)
    monkeypatch.setattr(page_figures, "table", table)
    return found


def check_scripts(codes):
    assert codes
    for key, (code, expected) in codes.items():
        assert code, key
        made = run_script(code)
        columns = [name for name in expected.columns if name in made.columns]
        assert len(columns) == len(expected.columns), key
        for name in columns:
            if expected[name].dtype.kind == "f":
                np.testing.assert_allclose(made[name], expected[name], atol=1e-6, err_msg=key)
            else:
                assert made[name].tolist() == expected[name].tolist(), key


# --- toys by density -----------------------------------------------------------------------------


def test_an_empty_address_shows_the_paper_s_five_features(open_page, codes):
    app = open_page("superposition")
    assert not app.error and not app.warning
    assert app.query_params["section"] == "look"
    result = load_shipped("five-in-two-dimensions")
    family = families_of(result)[0]
    density = app.select_slider(key="superposition/density").value
    W = family.W[family.densities.index(density), 0]
    drawn = figures(app)
    products = drawn["superposition/look/products"]
    np.testing.assert_allclose(products["data"][0]["z"], (W.mT @ W).numpy(), atol=1e-12)
    every = family.W.mT @ family.W
    reach = products["layout"]["coloraxis"]["cmax"]
    assert products["layout"]["coloraxis"]["cmin"] == -reach
    assert reach >= float(every.abs().max())  # one scale for all densities
    norms = drawn["superposition/look/norm"]["data"][0]["y"]
    np.testing.assert_allclose(norms, feature_norms(W), atol=1e-12)
    dims = drawn["superposition/look/dimensionality"]
    np.testing.assert_allclose(dims["data"][0]["y"], feature_dimensionality(W), atol=1e-12)
    assert dims["layout"]["yaxis"]["range"] == [0, 1]
    arrows = drawn["superposition/look/directions"]
    assert arrows["layout"]["yaxis"]["scaleanchor"] == "x"
    assert len(drawn["superposition/look/all"]["data"]) == 5 * len(family.densities)
    assert "pentagon" in app.markdown[0].value  # and a toy of a known shape is met first
    assert all(part.proto.alt for part in app.get("plotly_chart"))
    check_scripts(codes)


def test_the_slider_moves_through_densities_on_one_scale(open_page, codes):
    app = open_page("superposition", toys=SOLIDS, density="0.02")
    family = families_of(load_shipped("solids-in-three-dimensions"))[0]
    assert "icosahedron" in app.markdown[0].value
    edges, *parts = figures(app)["superposition/look/directions"]["data"]
    assert len(edges["x"]) == 30 * 3  # the icosahedron's
    W = family.W[family.densities.index(0.02), -1]
    tips = {
        int(text): (x, y, z)
        for part in parts
        for text, x, y, z in zip(part["text"], part["x"], part["y"], part["z"], strict=True)
        if text
    }
    assert len(tips) == 12
    for feature, tip in tips.items():
        np.testing.assert_allclose(tip, W[:, feature], atol=1e-12)
    scale = figures(app)["superposition/look/weights"]["layout"]["coloraxis"]["cmax"]
    app.select_slider(key="superposition/density").set_value(0.2).run()
    assert app.query_params["density"] == "0.2"
    assert "square antiprism" in app.markdown[0].value and "4 features absent" in html(app)
    drawn = figures(app)
    assert drawn["superposition/look/weights"]["layout"]["coloraxis"]["cmax"] == scale
    shared = drawn["superposition/look/shared"]["data"][0]["y"]
    W = family.W[family.densities.index(0.2), -1]
    there = feature_norms(W) > 0.3
    np.testing.assert_allclose(np.asarray(shared, float)[there], superposition(W)[there])
    assert np.isnan(np.asarray(shared, float)[~there]).all()  # nothing is told of absent features
    app.select_slider(key="superposition/step").set_value(family.steps[0]).run()
    assert app.query_params["step"] == "0"
    z = figures(app)["superposition/look/weights"]["data"][0]["z"]
    np.testing.assert_allclose(z, family.W[family.densities.index(0.2), 0], atol=1e-12)
    codes = {key: codes[key] for key in codes if "overview" not in key}  # its key has the density
    check_scripts(codes)


def test_a_family_is_chosen_and_another_section_is_remembered(open_page):
    app = open_page("superposition", family="all features alike", density="0.02")
    W = families_of(load_shipped("five-in-two-dimensions"))[1].W[-2, 0]
    z = figures(app)["superposition/look/weights"]["data"][0]["z"]
    np.testing.assert_allclose(z, W, atol=1e-12)
    app.button_group[0].set_value("phase").run()
    assert not app.exception and not app.warning
    assert app.query_params["section"] == "phase"
    assert app.query_params["density"] == "0.02"
    app.button_group[0].set_value("look").run()
    assert app.select_slider(key="superposition/density").value == 0.02


def test_what_is_not_there_is_told(open_page):
    query = {"section": "<b>x</b>", "density": "7", "toys": "run:../../etc", "nonsense": "1"}
    app = open_page("superposition", **query)
    assert not app.exception
    told = " ".join(said(app.warning))
    for message in (
        "There is no section '<b>x</b>' here. Shown: Toys by density.",
        "There is no density 1-s '7' here. Shown: 0.01.",
        "There is no toys 'run:../../etc' here.",
        "This page does not know 'nonsense'",
    ):
        assert message in told
    assert app.query_params["section"] == "look" and "nonsense" not in app.query_params


# --- phase diagrams ------------------------------------------------------------------------------


def test_theory_stands_beside_the_trained_and_a_point_shows_its_toys(open_page, codes):
    app = open_page("superposition", section="phase", size="n=3 m=2", row="9", column="5")
    assert not app.error and not app.warning
    result = load_shipped("phase-diagrams")
    points = result.tables["points"]
    points = points[points["size"] == "n=3 m=2"]
    maps = figures(app)["superposition/phase/maps/9/5"]
    grids = [trace for trace in maps["data"] if trace["type"] == "heatmap"]
    for grid, column in zip(grids, ("region", "best_region"), strict=True):
        expected = points.pivot(index="row", columns="column", values=column).to_numpy()
        np.testing.assert_array_equal(grid["z"], expected)
    assert maps["layout"]["coloraxis"]["colorbar"]["ticktext"][1] == "superposed"
    frames = [(shape["x0"], shape["y0"]) for shape in maps["layout"]["shapes"]]
    assert frames == [(4.5, 8.5)] * 2
    cells = [trace for trace in maps["data"] if trace["type"] == "scatter"]
    picked = [tuple(cell[:2]) for cell in np.asarray(cells[0]["customdata"], dtype=object)]
    assert len(cells) == 2
    assert (5, 9) in picked and len(picked) == 14 * 14  # column, row: to be clicked
    drawn = figures(app)
    for name, trained in (("theory", False), ("toy", True)):
        W = phase_toy(result, "n=3 m=2", 9, 5, trained)
        z = drawn[f"superposition/phase/{name}/products"]["data"][0]["z"]
        np.testing.assert_allclose(z, W.mT @ W, atol=1e-12)
    check_scripts(codes)
    app.selectbox(key="superposition/size").select("n=2 m=1").run()
    app.selectbox(key="superposition/colour").select("norm").run()
    assert not app.exception and not app.error
    maps = figures(app)["superposition/phase/maps/9/5"]
    norms = result.tables["points"]
    norms = norms[norms["size"] == "n=2 m=1"].pivot(index="row", columns="column", values="norm")
    np.testing.assert_allclose(maps["data"][0]["z"], norms)
    assert app.query_params["colour"] == "norm"


# --- learning dynamics ---------------------------------------------------------------------------


def test_the_time_slider_moves_the_mark_and_the_toy(open_page, codes):
    result = load_shipped("dynamics")
    sets = families_of(result)[1]
    app = open_page("superposition", section="dynamics", toy=sets.name, at="1500")
    assert not app.error and not app.warning
    drawn = figures(app)
    over_time = drawn["superposition/dynamics/over-time"]
    assert over_time["layout"]["shapes"][0]["x0"] == 1500
    assert over_time["layout"]["yaxis"]["range"] == [0, 1]
    D = feature_dimensionality(sets.W[0])
    for feature in range(6):
        np.testing.assert_allclose(over_time["data"][feature]["y"], D[:, feature], atol=1e-12)
    loss = drawn["superposition/dynamics/losses"]["data"][0]["y"]
    np.testing.assert_allclose(loss, sets.loss[0])
    at = sets.steps.index(1500)
    z = drawn["superposition/dynamics/weights"]["data"][0]["z"]
    np.testing.assert_allclose(z, sets.W[0, at], atol=1e-12)
    check_scripts(codes)
    app.select_slider(key="superposition/at").set_value(sets.steps[-1]).run()
    assert app.query_params["at"] == str(sets.steps[-1])
    assert "octahedron (3 digons)" in app.markdown[0].value


# --- all results ---------------------------------------------------------------------------------


def test_saved_results_are_opened_beside_those_that_ship(open_page, runs):
    settings = {"steps": 10, "n_snapshots": 2, "n_seeds": 1, "densities": [0.5, 0.1]}
    result = run_analysis("superposition-toys", **settings)
    save(result, runs / "mine", pictures=False)
    (runs / "broken" / "tables").mkdir(parents=True)
    (runs / "broken" / "result.json").write_text("{")
    app = open_page("superposition", section="results", open="run:mine")
    assert not app.error
    assert "superposition-toys" in app.markdown[0].value
    options = app.selectbox(key="superposition/open").options
    assert any("mine" in each for each in options) and not any("broken" in o for o in options)
    assert len(options) == 1 + len(list_shipped())
    app.selectbox(key="superposition/open").select("shipped:privileged-basis").run()
    assert not app.exception and not app.error
    assert "superposition-privileged" in app.markdown[0].value
    app = open_page("superposition", toys="run:mine", density="0.5")
    z = figures(app)["superposition/look/weights"]["data"][0]["z"]
    np.testing.assert_allclose(z, families_of(result)[0].W[0, -1], atol=1e-12)


# --- training live -------------------------------------------------------------------------------

QUICK = {
    "section": "train", "n": "4", "densities": "0.5, 0.1", "steps": "100", "batch": "32",
    "seeds": "2", "rate": "0.03", "seed": "5",
}  # fmt: skip


def test_toys_are_trained_drawn_and_saved(open_page, runs, codes, done_here):
    app = open_page("superposition", **QUICK)
    assert not app.error and not app.warning
    app.button(key="superposition/train").click().run()
    assert not app.exception and not app.error
    job = jobs.get(runs, app.query_params["job"])
    assert (job.request.kind, job.state) == ("toys", "queued")
    assert done_here(runs).state == "done"  # what the worker does, without waiting for its start
    codes.clear()
    app.run()
    assert not app.exception and not app.error
    result = AnalysisResult.load(runs / job.outcome.run)
    said_so = {"n_features": 4, "densities": [0.5, 0.1], "steps": 100, "seed": 5, "n_seeds": 2}
    assert {name: result.provenance.parameters[name] for name in said_so} == said_so
    family = families_of(result)[0]
    rows = codes["superposition/train/directions"][1]
    expected = torch.cat([family.W[k, -1].mT for k in range(2)])
    np.testing.assert_allclose(rows[["x", "y"]], expected, atol=1e-12)
    losses = codes["superposition/train/losses"][1]
    last = losses[losses["step"] == 100]["loss"].tolist()
    assert last == pytest.approx(family.loss[:, -1].tolist())
    assert sorted(losses["step"].unique()) == list(family.steps)
    check_scripts(codes)
    app.button(key="superposition/go").click().run()
    assert not app.exception and not app.error
    assert (app.query_params["section"], app.query_params["toys"]) == (
        "look", f"run:{job.outcome.run}",
    )  # fmt: skip


def test_a_training_is_drawn_as_it_goes_and_cancelled(open_page, runs, monkeypatch):
    asleep = (sys.executable, "-S", "-c", "import time; time.sleep(120)")
    monkeypatch.setattr("dashboards.jobs.launch.WORKER", asleep)
    app = open_page("superposition", **{**QUICK, "m": "3"})
    app.button(key="superposition/train").click().run()
    job = jobs.get(runs, app.query_params["job"])
    # What the worker would have written by now.
    told = jobs.Progress(done=0.4, line="step 40 of 100", began=time.time())
    (job.folder / "progress.json").write_text(told.model_dump_json())
    app.text_input(key="superposition/densities").input("0.5, x").run()
    assert app.error and app.button(key="superposition/cancel")  # a slip does not hide the job
    W = torch.linspace(-1, 1, 24, dtype=torch.float64).view(2, 3, 4)
    losses = torch.tensor([[3.0, 2.0], [1.0, 0.5]], dtype=torch.float64)
    toy_snapshots.write(
        job.folder, toy_snapshots.Snapshot(40, [0.5, 0.1], W, None, [0, 40], losses)
    )
    app.text_input(key="superposition/densities").input("0.5, 0.1").run()
    assert not app.exception and not app.error
    assert "After 40 of 100 steps" in app.markdown[0].value
    drawn = figures(app)
    lines = drawn["superposition/train/losses"]["data"]
    assert [list(line["y"]) for line in lines] == [[3.0, 1.0], [2.0, 0.5]]
    tips = {}
    for part in drawn["superposition/train/directions"]["data"][1:]:
        tips |= {text: x for text, x in zip(part["text"], part["x"], strict=True) if text}
    assert tips == pytest.approx({str(i): float(W[1, 0, i]) for i in range(4)})
    app.select_slider(key="superposition/seen").set_value(0.5).run()
    assert app.query_params["seen"] == "0.5"
    app.button(key="superposition/cancel").click().run()
    assert job.state == "cancelled" and not job.process.alive
    assert "Cancelled." in said(app.info)[0]
    assert not [each for each in runs.iterdir() if not each.name.startswith(".")]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"densities": "2"}, "densities must be different numbers above 0 and at most 1"),
        ({"relation": "correlated", "n": "5"}, "n_features must be a multiple of group_size"),
        ({"relation": "anticorrelated", "densities": "0.7"}, "densities must be at most 0.5"),
        ({"steps": "20000", "batch": "2048", "n": "20"}, "must be at most 2,000,000,000 here"),
        ({}, ""),
    ],
)
def test_settings_that_cannot_be_trained_are_told(query, message):
    given = {
        "n_features": int(query.get("n", 4)),
        "densities": train.read_densities(query.get("densities", "0.5, 0.1")),
        "steps": int(query.get("steps", 100)),
        "batch_size": int(query.get("batch", 32)),
        "n_seeds": 2,
    }
    sign = {"correlated": 1.0, "anticorrelated": -1.0}.get(query.get("relation"))
    fault = train.fault_of(given | ({} if sign is None else {"correlation": sign}))
    assert message in fault and bool(message) == bool(fault)


def test_a_form_with_a_fault_does_not_train(open_page, runs):
    app = open_page("superposition", **{**QUICK, "densities": "0.5, x"})
    assert said(app.error) == ["densities are numbers with commas between. Received 'x'."]
    assert app.button(key="superposition/train").disabled
    many = ", ".join(f"{k / 201:.6f}" for k in range(1, 201))
    app.text_input(key="superposition/densities").input(many).run()
    assert "at most 30 items" in said(app.error)[0] and len(said(app.error)[0]) <= 300
    app.text_input(key="superposition/densities").input("0.5, 0.5").run()
    assert "densities must be different numbers" in said(app.error)[0]
    assert app.button(key="superposition/train").disabled
    app.text_input(key="superposition/densities").input("0.5, 0.3").run()
    assert not app.error and not app.button(key="superposition/train").disabled
    assert app.query_params["densities"] == "0.5, 0.3"
    assert not jobs.find(runs)


def test_every_setting_reaches_the_training(open_page, monkeypatch):
    asked = {}

    def start(runs, analysis, **given):
        asked.update(given["settings"])
        raise train.InputError("no more today")

    monkeypatch.setattr(train.jobs, "start", start)
    query = {
        "n": "6", "m": "4", "importance": "0.8", "activation": "hidden", "target": "absolute",
        "relation": "anticorrelated", "start": "0.5", "densities": "0.2", "batch": "64",
    }  # fmt: skip
    app = open_page("superposition", **{**QUICK, **query})
    app.button(key="superposition/train").click().run()
    assert said(app.error) == ["no more today"]
    expected = {
        "n_features": 6, "d_hidden": 4, "importance": 0.8, "hidden": "relu", "output": "relu",
        "target": "absolute", "values": "signed", "tied": False, "correlation": -1.0,
        "init_scale": 0.5, "densities": [0.2], "batch_size": 64, "lr": 0.03, "n_seeds": 2,
        "steps": 100, "seed": 5,
    }  # fmt: skip
    assert {name: asked[name] for name in expected} == expected


def test_a_job_of_another_day_or_kind_is_told(open_page, runs, monkeypatch):
    app = open_page("superposition", section="train", job="../../etc")
    assert "there is no job '../../etc'" in said(app.warning)[0]
    assert "job" not in app.query_params
    monkeypatch.setattr("dashboards.jobs.launch._launch", lambda folder: None)
    other = jobs.start(runs, "superposition-intro", settings={"steps": 10}, name="other")
    app.query_params["job"] = other.id
    app.run()
    assert not app.exception
    assert f"the job '{other.id}' trains no toys" in said(app.warning)[0]


def test_what_a_hidden_relu_makes_of_features_is_shown(open_page, runs, codes):
    settings = {"steps": 10, "n_snapshots": 1, "n_seeds": 1, "densities": [0.5], "d_hidden": 5}
    absolute = {"hidden": "relu", "tied": False, "values": "signed", "target": "absolute"}
    result = run_analysis("superposition-toys", n_features=2, **settings, **absolute)
    save(result, runs / "mine", pictures=False)
    app = open_page("superposition", toys="run:mine")
    assert not app.error and not app.warning
    family = families_of(result)[0]
    z = figures(app)["superposition/look/products"]["data"][0]["z"]
    expected = family.W_out[0, -1] @ family.W[0, -1].relu()
    np.testing.assert_allclose(z, expected, atol=1e-12)
    assert any("do not see what the hidden layer's ReLU" in each for each in said(app.caption))
    check_scripts(codes)  # two features in five dimensions are seen in three
