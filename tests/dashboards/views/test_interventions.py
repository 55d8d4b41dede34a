"""The interventions page against the library called directly."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dashboards import edits
from dashboards.drawing import figures
from interp.interventions import applied
from interp.patching import LogitDiff, get_act_patch_resid_pre
from tests.dashboards import screen
from tests.dashboards.scripts import run_script

PROMPT, OTHER = screen.PROMPT, "the dog sat on a mat the cat"
PAIR = {"prompt": PROMPT, "second": OTHER, "answer": "$x$", "rival": "*"}


@pytest.fixture
def drawn(monkeypatch):
    """Every chart and table of a page with what it was made from, by key."""
    found = {}
    chart, table = figures.chart, figures.table

    def keep_chart(drawn, frame, key, *args, **kwargs):
        found[key] = SimpleNamespace(chart=drawn, frame=frame, code=kwargs["code"])
        return chart(drawn, frame, key, *args, **kwargs)

    def keep_table(frame, key, name, code=None):
        found[key] = SimpleNamespace(chart=None, frame=frame, code=code)
        return table(frame, key, name, code)

    monkeypatch.setattr(figures, "chart", keep_chart)
    monkeypatch.setattr(figures, "table", keep_table)
    return found


def runs(model, text, other=None):
    """Logits before and after, by the library alone."""
    tokens = model.to_tokens(PROMPT)
    second = None if other is None else model.to_tokens(other)[0].tolist()
    plan = edits.plan(text, model, tokens[0].tolist(), second)
    with torch.no_grad():
        before = model(tokens)[0]
        with applied(model, plan, tokens):
            return before, model(tokens)[0]


def test_an_empty_address_invites(open_page):
    app = open_page("interventions", prompt=PROMPT)
    assert screen.said(app.error) == screen.said(app.warning) == []
    assert "Add an intervention" in screen.said(app.info)[0]
    assert any("Zero is no neutral value" in text for text in screen.said(app.caption))
    assert not screen.figures(app)


def test_the_form_adds_and_the_list_removes(open_page, model):
    app = open_page("interventions", prompt=PROMPT, show="predictions")
    app.selectbox(key="interventions/in").select(1).run()
    app.selectbox(key="interventions/unit").select(2).run()
    app.button(key="interventions/add").click().run()
    assert app.query_params["edits"] == "zero:L1H2"
    tops = screen.figures(app)["interventions/predictions"]["data"]
    before, after = runs(model, "zero:L1H2")
    for trace, logits in zip(tops, (before, after), strict=True):
        shown = sorted(trace["y"], reverse=True)
        np.testing.assert_allclose(shown[0], logits[-1].softmax(-1).max(), atol=1e-5)
    app.text_input(key="shared/edits").set_value("zero:L1H2; mean:L0MLP@-1").run()
    assert (
        "MLP output of layer 0, position -1: its mean over all positions of this prompt"
        in " ".join(screen.said(app.markdown))
    )
    app.button(key="interventions/remove/0").click().run()
    assert app.query_params["edits"] == "mean:L0MLP@-1"
    app.button(key="interventions/remove/0").click().run()
    assert "edits" not in app.query_params
    assert screen.said(app.warning) == []


def test_a_deep_link_shows_everything(open_page, drawn, model):
    text = "zero:L0H1;patch:L1.resid_pre@3;scale:L1MLP@-1*0.5"
    app = open_page("interventions", edits=text, position="5", layer="1", head="2", **PAIR)
    assert screen.said(app.error) == screen.said(app.warning) == []
    right, wrong = model.to_single_token("$x$"), model.to_single_token("*")
    before, after = runs(model, text, OTHER)
    outcome = drawn["interventions/outcome"].frame
    for logits, name in ((before, "before"), (after, "after")):
        here = logits[5]
        expected = [here[right] - here[wrong], here[right], here.softmax(-1)[right]]
        np.testing.assert_allclose(outcome[name][:3], torch.stack(expected), atol=1e-5)
    assert next(m.label for m in app.metric) == r"Logit of “\$x\$” less that of “\*”"

    specs = screen.figures(app)
    p, q = (x.double().log_softmax(-1) for x in (before, after))
    np.testing.assert_allclose(
        specs["interventions/kl"]["data"][0]["y"], (p.exp() * (p - q)).sum(-1), atol=1e-5
    )
    for name in ("attention", "head", "norm", "lens"):
        of = [np.array(specs[f"interventions/{name}/{run}"]["data"][0]["z"], float)
              for run in ("before", "after", "difference")]  # fmt: skip
        np.testing.assert_allclose(of[2], of[1] - of[0], atol=1e-6)
        assert np.nanmax(np.abs(of[2])) > 1e-4, name
        scales = [specs[f"interventions/{name}/{run}"]["layout"]["coloraxis"]
                  for run in ("before", "after", "difference")]  # fmt: skip
        ends = [(scale["cmin"], scale["cmax"]) for scale in scales]
        assert ends[0] == ends[1] and ends[2][0] == -ends[2][1], name
    tokens = model.to_tokens(PROMPT)
    plan = edits.plan(text, model, tokens[0].tolist(), model.to_tokens(OTHER)[0].tolist())
    with torch.no_grad(), applied(model, plan, tokens):
        _, cache = model.run_with_cache(tokens)
    shown = np.array(specs["interventions/attention/after"]["data"][0]["z"], float)
    pattern = cache["pattern", 1][0, 2].numpy()
    rows, columns = np.tril_indices(len(pattern))
    np.testing.assert_allclose(shown[rows, columns], pattern[rows, columns], atol=1e-5)
    assert np.isnan(shown[np.triu_indices(len(pattern), 1)]).all()

    assert len(drawn) == 18
    for key, each in drawn.items():
        table = run_script(each.code)
        assert table.columns.tolist() == each.frame.columns.tolist(), key
        for column in table.columns:
            if table[column].dtype.kind == "f":
                np.testing.assert_allclose(table[column], each.frame[column], atol=1e-6)
            else:
                assert table[column].tolist() == each.frame[column].tolist(), (key, column)


def test_a_sweep_is_the_librarys(open_page, drawn, model):
    given = {"sweep": "patch", "site": "resid_pre", "position": "4", "show": "predictions"}
    app = open_page("interventions", **given, **PAIR)
    spec = next(v for k, v in screen.figures(app).items() if k.startswith("interventions/sweep"))
    tokens, other = model.to_tokens(PROMPT), model.to_tokens(OTHER)
    metric = LogitDiff(model.to_single_token("$x$"), model.to_single_token("*"), 4)
    with torch.no_grad():
        _, cache = model.run_with_cache(other)
        base = metric(model(tokens))
        expected = get_act_patch_resid_pre(model, tokens, cache, metric) - base
    np.testing.assert_allclose(np.array(spec["data"][0]["z"], float), expected, atol=1e-5)
    scale = spec["layout"]["coloraxis"]
    assert scale["cmin"] == -scale["cmax"]
    (key,) = (key for key in drawn if key.startswith("interventions/sweep"))
    table = run_script(drawn[key].code)
    np.testing.assert_allclose(table["effect"], expected.flatten(), atol=1e-6)

    layer, position = divmod(int(expected.abs().argmax()), expected.shape[1])
    app.button(key="interventions/sweep/strongest").click().run()
    assert app.query_params["edits"] == f"patch:L{layer}.resid_pre@{position}"
    app.selectbox(key="interventions/site").select("z").run()
    app.selectbox(key="interventions/sweep").select("mean").run()
    app.selectbox(key="interventions/measure").select("kl").run()
    spec = next(v for k, v in screen.figures(app).items() if k.startswith("interventions/sweep"))
    assert np.array(spec["data"][0]["z"], float).shape == (2, 4)
    assert spec["layout"]["coloraxis"]["cmin"] >= -1e-6
    assert screen.said(app.error) == screen.said(app.warning) == []


@pytest.mark.parametrize(
    ("put_in", "site", "edit"),
    [("patch", "resid_pre", "patch:L1.resid_pre@3"), ("zero", "attn_out", "zero:L1.attn@3"),
     ("mean", "mlp_out", "mean:L1MLP@3"), ("mean", "z", "mean:L1H3")],
)  # fmt: skip
def test_a_click_adds_the_edit_of_the_cell(monkeypatch, put_in, site, edit):
    from dashboards.views.interventions import sweep

    kept = {"edits": "zero:L0H0"}
    shared = SimpleNamespace(kept=kept, keep=kept.__setitem__)
    points = [{"customdata": [3, 1, "the", "1"]}]
    monkeypatch.setattr(
        sweep.st, "session_state", {"key": {"selection": {"points": points}}}, raising=False
    )
    sweep._pick(shared, "key", put_in, site)
    assert kept["edits"] == f"zero:L0H0;{edit}"
    assert len(edits.parse(kept["edits"])) == 2


def test_the_form_writes_every_verb(open_page):
    app = open_page("interventions", **PAIR)
    seen = set()
    for verb in edits.VERBS:
        app.selectbox(key="interventions/do").select(verb).run()
        label = re.sub(r"\\(.)", r"\1", app.button(key="interventions/add").label)
        text = label.removeprefix("Add ")
        seen.add(text.split(":")[0])
        if verb not in ("steer", "swap"):  # these want a token, and two positions
            assert edits.written(edits.parse(text)) == text
        assert app.button(key="interventions/add").disabled == (verb in ("steer", "swap")), text
    assert seen == set(edits.VERBS)
    assert screen.said(app.error) == screen.said(app.warning) == []


def test_the_form_writes_every_kind_of_place(open_page, model):
    app = open_page("interventions", **PAIR)
    given = {
        "H": {"in": "*", "unit": 3, "of": "pattern", "at": "2"},
        "link": {"unit": "*", "at": "5", "source": "1"},
        "N": {"in": 1, "at": "*"},
        "MLP": {"in": 0, "at": "3"},
        "resid_mid": {"in": 1},
        "embed": {"at": "7"},
        "edge": {"from": "L0H2", "into": "L1H0.v"},
        "positions": {"at": "4"},
    }
    wanted = [
        "zero:L*H3.pattern@2", "zero:L*H*@5<1", "zero:L1N0", "zero:L0MLP@3", "zero:L1.resid_mid@3",
        "zero:embed@7", "zero:L0H2>L1H0.v", "zero:positions@4",
    ]  # fmt: skip
    for (kind, widgets), text in zip(given.items(), wanted, strict=True):
        app.selectbox(key="interventions/kind").select(kind).run()
        for name, value in widgets.items():
            app.selectbox(key=f"interventions/{name}").select(value)
            app.run()
        button = app.button(key="interventions/add")
        assert re.sub(r"\\(.)", r"\1", button.label) == f"Add {text}"
        assert not button.disabled, text
    assert screen.said(app.error) == screen.said(app.warning) == []


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"edits": "zap:L0H1"}, "unknown edit 'zap'"),
        ({"edits": "zero:L7H1"}, "layers must lie in"),
        ({"edits": "patch:L0H1"}, "needs a second prompt"),
        ({"edits": "zero:<script>alert(1)</script>"}, "an edge is written"),
        ({"edits": "scale:L0H0*1e300"}, "beyond the range of float32"),
        ({"sweep": "patch"}, "no second prompt to patch from"),
        ({"sweep": "patch", "second": "the cat"}, "two prompts of as many tokens"),
    ],
)
def test_errors_are_messages(open_page, query, message):
    app = open_page("interventions", prompt=PROMPT, **query)
    assert message in " ".join(screen.said(app.error))
    assert app.text_input(key="shared/edits").value == query.get("edits", "")
    assert "<script>" not in screen.html(app)


def test_a_sweep_beyond_a_page_is_refused(open_page, monkeypatch, model):
    from dashboards.readings import base, sweeps

    weights = sum(p.numel() for p in model.parameters())
    for site, places in (("z", 2 * 4), ("resid_pre", 2 * 6)):
        limit = places * (6 * weights + 100 * 2 * 4 * 6 * 6) / 2  # what six tokens take
        monkeypatch.setattr(base, "MOST_WORK", limit)
        monkeypatch.setattr(sweeps, "MOST_WORK", limit)
        given = {"sweep": "zero", "site": site, "measure": "kl"}
        app = open_page("interventions", prompt=PROMPT, **given)
        assert "take a prompt of at most 6 tokens" in screen.said(app.error)[0]
        shorter = " ".join(PROMPT.split()[:5])  # and BOS
        app = open_page("interventions", prompt=shorter, **given)
        assert not app.error and len(screen.figures(app)) == 1


def test_a_long_prompt_leaves_out_its_patterns_alone(open_page, monkeypatch):
    from dashboards.views.interventions import attention

    monkeypatch.setattr(attention, "MOST_TOKENS", 4)
    app = open_page("interventions", prompt=PROMPT, edits="zero:L0H1", show="attention,heads")
    assert "drawn of 4 tokens at most. These are 9" in screen.said(app.info)[0]
    assert "interventions/head/after" in screen.figures(app) and not app.error


def test_options_that_another_widget_takes_away_are_no_mistake(open_page):
    app = open_page("interventions", prompt=PROMPT)
    app.selectbox(key="interventions/kind").select("edge").run()
    app.selectbox(key="interventions/into").select("L0H0.q").run()
    app.selectbox(key="interventions/from").select("L1H0").run()
    assert app.selectbox(key="interventions/into").value == "logits"
    app.selectbox(key="interventions/do").select("scale").run()
    assert app.selectbox(key="interventions/kind").value == "H"
    assert screen.said(app.warning) == screen.said(app.error) == []


def test_interventions_switched_on_do_not_count_twice(open_page, drawn, model):
    text = "scale:L0MLP*0.5"
    open_page("interventions", prompt=PROMPT, edits=text, edited="1", show="predictions")
    _, after = runs(model, text)
    outcome = drawn["interventions/outcome"].frame
    np.testing.assert_allclose(outcome["before"].iloc[0], runs(model, "")[0][-1].max(), atol=1e-5)
    target = int(runs(model, "")[0][-1].argmax())
    np.testing.assert_allclose(outcome["after"].iloc[0], after[-1, target], atol=1e-5)
    assert not [key for key in drawn if "attention" in key]
