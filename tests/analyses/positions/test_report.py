"""Merging by hand-made results; the whole report on models of the zoo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

pytest.importorskip("tokenizers", reason="needs the extra 'hf'")

from analyses import AnalysisResult, Check, get_analysis, run_analysis
from analyses.positions.report import PositionReportParams
from analyses.positions.report_figures import with_places
from analyses.positions.report_merging import (
    ANALYSES,
    Part,
    common_order,
    left_out_table,
    merged,
    merged_checks,
    merged_tables,
    settings_table,
)
from interp import HookedTransformer, InputError, load_model, zoo
from interp.weights import weight_hash

ONE, OTHER = "zoo:count-rotary", "zoo:count-learned"


@pytest.fixture(scope="module")
def model() -> HookedTransformer:
    return load_model(ONE, device="cpu")


@pytest.fixture(scope="module")
def report(model: HookedTransformer) -> AnalysisResult:
    """Two models beside each other, all parts."""
    return run_analysis("position-report", model, quick=True, beside=[OTHER], seed=1)


# --- merging -------------------------------------------------------------------------------------


def test_tables_stand_under_one_another() -> None:
    first = pd.DataFrame(
        {"site": ["a", "b"], "layer": [0, 1], "x": [0.5, 1.5], "on": [True, False]}
    )
    second = pd.DataFrame({"site": ["a"], "x": [2.5], "note": ["why"], "model": ["overwritten"]})
    found = merged([("one", first), ("two", second)])
    assert list(found) == ["model", "site", "layer", "x", "on", "note"]
    assert found["model"].tolist() == ["one", "one", "two"]
    assert found["x"].tolist() == [0.5, 1.5, 2.5]
    assert found["layer"].tolist()[:2] == [0, 1] and pd.isna(found["layer"][2])
    assert found["note"].tolist() == ["", "", "why"]
    assert found["on"].tolist()[:2] == [True, False] and pd.isna(found["on"][2])
    assert found.index.equals(pd.RangeIndex(3))
    assert (found[found["on"] == True]["site"] == "a").all()  # noqa: E712 - as charts choose rows
    assert list(first) == ["site", "layer", "x", "on"]  # the parts are left as they are


def test_kinds_stay_where_all_have_a_column() -> None:
    table = pd.DataFrame({"layer": [0], "on": [True], "text": ["a"], "x": [0.5]})
    found = merged([("one", table), ("two", table)])
    assert {c: str(found[c].dtype) for c in table} == {c: str(table[c].dtype) for c in table}


def test_an_order_that_agrees_with_all() -> None:
    assert common_order([["a", "b", "c"], ["pos", "a", "c", "d"]]) == ["pos", "a", "b", "c", "d"]
    assert common_order([["L0", "L1 post"], ["L0", "L1 pre", "L1 post"]]) == [
        "L0", "L1 pre", "L1 post",
    ]  # fmt: skip
    assert common_order([]) == []


def test_sites_of_models_of_different_depth_stand_layer_by_layer() -> None:
    shallow = ["embed", "L0 resid_pre", "L1 resid_pre", "L1 resid_post", "final"]
    deep = ["embed", "L0 resid_pre", "L1 resid_pre", "L2 resid_pre", "L10 resid_pre", "final"]
    table = pd.concat(
        pd.DataFrame({"model": name, "site": sites, "order": range(len(sites))})
        for name, sites in (("one", shallow), ("two", deep))
    )
    placed = with_places(table, "site").drop_duplicates("site").sort_values("place")
    assert placed["site"].tolist() == [
        "embed", "L0 resid_pre", "L1 resid_pre", "L1 resid_post", "L2 resid_pre", "L10 resid_pre",
        "final",
    ]  # fmt: skip


def test_parts_are_told_apart(make_result: Callable[..., AnalysisResult]) -> None:
    table = pd.DataFrame({"score": [1.0]})
    result = make_result(tables={"by-layer": table}, figures={}, checks=[Check("sums", 0.5, 1.0)])
    parts = [
        Part("one", "length", result),
        Part("one", "probes", result),
        Part("two", "probes", None, "too short"),
        Part("two", "geometry", result),
    ]
    # In the order of the report, whatever the parts' own.
    assert list(merged_tables(parts)) == ["probes-by-layer", "geometry-by-layer", "length-by-layer"]
    assert [check.name for check in merged_checks(parts)] == [
        "one, length: sums", "one, probes: sums", "two, geometry: sums",
    ]  # fmt: skip
    assert all((c.value, c.tolerance) == (0.5, 1.0) for c in merged_checks(parts))
    assert left_out_table(parts).values.tolist() == [["two", "position-probes", "too short"]]
    settings = settings_table(parts)
    assert settings["analysis"].drop_duplicates().tolist() == [
        "position-probes", "position-geometry", "length-generalisation",
    ]  # fmt: skip
    assert set(settings["value"]) == {'"x\\ny"', "3", '{"a": [1.5, null]}'}


def test_settings_that_models_share_are_told_once(
    make_result: Callable[..., AnalysisResult],
) -> None:
    parts = [Part(name, "probes", make_result()) for name in ("one", "two")]
    assert set(settings_table(parts)["models"]) == {"one, two"}


# --- the report ----------------------------------------------------------------------------------


def test_every_part_of_every_model_is_there(report: AnalysisResult) -> None:
    assert report.passed
    for part in ANALYSES:
        mine = [name for name in report.tables if name.startswith(f"{part}-")]
        assert mine, part
        for model in (ONE, OTHER):
            assert any((report.tables[name]["model"] == model).any() for name in mine), part
            prefix = f"{model}, {part}: "
            assert any(check.name.startswith(prefix) for check in report.checks), prefix
    assert next(iter(report.tables)) == "overview"
    assert report.tables["overview"]["model"].tolist() == [ONE, OTHER]
    assert "left-out" not in report.tables
    assert 10 <= len(report.figures) <= 14


def test_numbers_are_those_of_each_analysis_by_itself(report: AnalysisResult) -> None:
    """Opened anew, run alone, with the settings that the report was asked with."""
    for name in (ONE, OTHER):
        alone = load_model(name, device="cpu")
        for part in ("geometry", "attention", "length"):
            result = run_analysis(ANALYSES[part], alone, quick=True, seed=1)
            for key, table in result.tables.items():
                whole = report.tables[f"{part}-{key}"]
                mine = whole[whole["model"] == name].reset_index(drop=True)
                for column in table.columns.drop("model", errors="ignore"):
                    pd.testing.assert_series_equal(
                        mine[column], table[column], check_dtype=False, rtol=1e-9, obj=key
                    )


def test_the_overview_says_what_the_tables_say(report: AnalysisResult) -> None:
    overview = report.tables["overview"].set_index("model")
    lengths = report.tables["length-by-length"]
    effects = report.tables["interventions-effects"]
    probes = report.tables["probes-by-layer"]
    for name in (ONE, OTHER):
        row = overview.loc[name]
        plain = lengths[(lengths["model"] == name) & (lengths["variant"] == "plain")]
        assert row["accuracy_1x"] == plain[plain["times"] == "1×"]["accuracy"].item()
        moved = effects[(effects["model"] == name) & (effects["what"] == "shuffle")]
        assert row["shuffled_kl"] == moved[moved["tokens"] == "all"]["kl"].item()
        of = probes[(probes["model"] == name) & (probes["site"] == "L1 resid_post")]
        of = of[(of["target"] == "position") & (of["fitted"] == "this model")]
        assert row["final_r2"] == of[of["measure"] == "R²"]["value"].item()
        assert row["final_accuracy"] == of[of["measure"] == "accuracy"]["value"].item()
    # Learned positions are added to the stream, rotary ones are not; and end at the table's end.
    assert overview.loc[OTHER, "embedded_r2"] > 0.4 > 0.2 > overview.loc[ONE, "embedded_r2"]
    assert pd.isna(overview.loc[OTHER, "accuracy_2x"]) and overview.loc[ONE, "accuracy_2x"] <= 1


def test_a_head_that_never_varies_is_not_the_most_positional() -> None:
    model = load_model("zoo:copy-none", device="cpu")
    with torch.no_grad():
        for name in ("W_Q", "b_Q"):
            getattr(model.blocks[0].attn, name)[0] = 0  # even attention, whatever the position
    result = run_analysis("position-report", model, quick=True, parts="attention", sequences=8)
    heads = result.tables["attention-heads"].set_index("label")["position_r2"]
    assert pd.isna(heads["L0H0"])
    row = result.tables["overview"].iloc[0]
    assert row["its_r2"] == heads.max() == heads[row["most_positional_head"]]


def test_trajectories_share_a_scale(report: AnalysisResult) -> None:
    drawn = report.tables["geometry-trajectory"]
    for _, site in drawn.groupby(["model", "label"]):
        largest = site["score"].abs().max()
        assert site["relative"].abs().max() == 1
        assert (site["relative"] * largest - site["score"]).abs().max() <= 1e-9 * largest


def test_all_models_are_in_the_provenance(
    model: HookedTransformer, report: AnalysisResult, tmp_path: Path
) -> None:
    other = load_model(OTHER, device="cpu")
    assert report.provenance.model == ONE
    assert report.provenance.weight_hash == weight_hash(model)
    assert report.provenance.beside == {OTHER: weight_hash(other)}
    assert report.provenance.parameters["beside"] == [OTHER]
    hashes = report.tables["models"].set_index("model")["weight_hash"]
    assert hashes.to_dict() == {ONE: weight_hash(model), OTHER: weight_hash(other)}
    settings = report.tables["settings"]
    asked = settings[settings["parameter"] == "seed"]
    assert set(asked["value"]) == {"1"} and set(asked["analysis"]) == set(ANALYSES.values())


@pytest.mark.usefixtures("undrawn_figures")
def test_the_page_holds_it_all(report: AnalysisResult, tmp_path: Path) -> None:
    pytest.importorskip("seaborn", reason="needs the extra 'plots'")
    saved = report.save(tmp_path / "report")
    page = (saved / "report.html").read_text()
    for name in report.figures:
        assert f'id="figure-{name}"' in page
    assert f"weights of {OTHER}" in page and report.provenance.beside[OTHER] in page
    again = AnalysisResult.load(saved)
    assert again.provenance == report.provenance
    for name, table in report.tables.items():
        pd.testing.assert_frame_equal(again.tables[name], table)


def test_what_does_not_fit_is_told(model: HookedTransformer) -> None:
    """An encoder that classifies predicts no next token."""
    result = run_analysis(
        "position-report", model, quick=True, beside=["zoo:brackets"], parts=["attention", "length"]
    )
    left_out = result.tables["left-out"]
    assert left_out["model"].tolist() == ["zoo:brackets"]
    assert left_out["analysis"].tolist() == ["length-generalisation"]
    brackets = load_model("zoo:brackets", device="cpu")
    reason = get_analysis("length-generalisation").supports(brackets)
    assert left_out["reason"].tolist() == [reason]
    assert set(result.tables["attention-heads"]["model"]) == {ONE, "zoo:brackets"}


def test_a_request_that_does_not_fit_one_model_is_told(model: HookedTransformer) -> None:
    """Learned positions end at the trained length, rotary ones do not."""
    arguments: dict[str, Any] = {"quick": True, "parts": ["attention"], "length": 60}
    result = run_analysis("position-report", model, beside=[OTHER], **arguments)
    left_out = result.tables["left-out"]
    assert left_out["model"].tolist() == [OTHER] and "48" in left_out["reason"][0]
    with pytest.raises(InputError, match=r"no part .* could be run.*48"):
        run_analysis("position-report", load_model(OTHER, device="cpu"), **arguments)


def test_a_directory_stands_beside_too(model: HookedTransformer, tmp_path: Path) -> None:
    folder = str(load_model(OTHER, device="cpu").save(tmp_path / "mine"))
    result = run_analysis(
        "position-report", model, quick=True, beside=[folder], parts=["attention"]
    )
    assert result.tables["models"]["model"].tolist() == [ONE, folder]
    assert list(result.provenance.beside) == [folder]


def test_a_model_that_kept_its_name_stands_beside_the_original(tmp_path: Path) -> None:
    """As one does that was trained further and saved."""
    changed = load_model(ONE, device="cpu")
    with torch.no_grad():
        changed.W_E.mul_(1.1)
    result = run_analysis("position-report", changed, quick=True, beside=ONE, parts="attention")
    models = result.tables["models"].set_index("model")["weight_hash"]
    assert models.index.tolist() == [f"this {ONE}", ONE]
    assert models[f"this {ONE}"] == weight_hash(changed) != models[ONE]
    assert result.provenance.beside == {ONE: models[ONE]}


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        (["zoo:nothing"], "unknown zoo model 'zoo:nothing'"),
        (["/no/such/model"], "no directory"),
        ([ONE], "other models than the one"),
        ([OTHER, OTHER], "named once"),
    ],
)
def test_bad_neighbours_are_refused_before_anything_runs(
    model: HookedTransformer, beside: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "analyses.positions.report.run_analysis", lambda *a, **k: pytest.fail("ran")
    )
    with pytest.raises(InputError, match=message):
        run_analysis("position-report", model, beside=beside)


def test_settings_reach_the_analyses_that_have_them(model: HookedTransformer) -> None:
    result = run_analysis(
        "position-report", model, parts=["geometry", "length"], sequences=9, length=40, seed=3,
        extent="quick",
    )  # fmt: skip
    settings = result.tables["settings"].set_index(["analysis", "parameter"])["value"]
    assert settings["position-geometry", "sequences"] == "9"
    assert settings["position-geometry", "length"] == "40"
    assert settings["position-geometry", "seed"] == "3"
    assert settings["length-generalisation", "seed"] == "3"
    assert ("length-generalisation", "length") not in settings
    # The others are those of the analysis's own quick form.
    assert settings["position-geometry", "offsets"] == "[1, 4]"


def test_no_encoding_that_was_trained_is_refused() -> None:
    for name in zoo.entries():
        if name.startswith(("zoo:copy-", "zoo:count-")):
            assert get_analysis("position-report").supports(load_model(name, device="cpu")) is None
    reason = get_analysis("position-report").supports(load_model("zoo:translation", device="cpu"))
    assert reason is not None and "two stacks" in reason


def test_quick_is_quick(model: HookedTransformer) -> None:
    """The quick form asks for less, part by part."""
    analysis = get_analysis("position-report")()
    assert analysis.quick(PositionReportParams()).extent == "quick"


def test_the_models_are_left_as_they_were(model: HookedTransformer, report: AnalysisResult) -> None:
    fresh = load_model(ONE, device="cpu")
    assert model.watched_hooks() == (set(), set())
    for name, value in fresh.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
