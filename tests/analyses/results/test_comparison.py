"""Two results beside each other, against numbers worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest

from analyses import AnalysisResult, Check
from analyses.results.comparison import (
    checks_beside,
    difference,
    join,
    keys_of_figures,
    on_one_scale,
    parameters_that_differ,
    provenance_that_differs,
)
from analyses.results.provenance import collect
from interp import InputError
from interp.charts import Chart

HEADS_A = pd.DataFrame(
    {"layer": [0, 0, 1], "head": [0, 1, 0], "name": ["L0H0", "L0H1", "L1H0"],
     "rank": [3, 2, 1], "score": [0.5, -1.0, math.nan]}
)  # fmt: skip
HEADS_B = pd.DataFrame(
    {"layer": [1, 0, 1], "head": [0, 0, 1], "name": ["L1H0", "L0H0", "L1H1"],
     "rank": [1, 2, 3], "score": [4.0, 2.0, 7.0]}
)  # fmt: skip
HEADS = Chart(
    kind="heatmap", table="heads", title="Heads", alt="All heads.", x="head", y="layer",
    value="score", value_label="score (nats)",
)  # fmt: skip


def result(tables, figures=None, checks=(), **parameters):
    provenance = collect(None, parameters=parameters, tokens=[[1, 2]])
    checks = list(checks) or [Check("sums", 0.0, 1.0)]
    return AnalysisResult("look", "What is there?", tables, figures or {}, checks, provenance)


def test_parameters_and_provenance_that_differ():
    a = result({}, k=3, text="x", none=None)
    b = result({}, k=3, text="y", more=[1.0])
    found = parameters_that_differ(a, b)
    assert found.to_numpy().tolist() == [["text", "x", "y"], ["more", "none", "[1.0]"]]
    assert parameters_that_differ(a, a).empty
    told = provenance_that_differs(a, b)
    assert told["of"].tolist() == ["created"]


def test_checks_stand_beside_those_of_their_name():
    a = result(
        {}, checks=[Check("sums", 0.1, 1.0), Check("same", 0.0, 1.0), Check("same", 2.0, 1.0)]
    )
    b = result({}, checks=[Check("same", 0.5, 1.0), Check("new", 3.0, 1.0)])
    rows = checks_beside(a, b).set_index(["check", "value (A)"], drop=False)
    outcomes = [tuple(row) for row in rows[["check", "outcome (A)", "outcome (B)"]].to_numpy()]
    assert sorted(outcomes) == [
        ("new", "absent", "FAILED"), ("same", "FAILED", "absent"), ("same", "passed", "passed"),
        ("sums", "passed", "absent"),
    ]  # fmt: skip
    assert rows.loc[("same", 0.0), "value (B)"] == 0.5


def test_rows_are_joined_by_the_columns_that_name_them():
    found = join(HEADS_A, HEADS_B, keys_of_figures({"heads": HEADS}, "heads"))
    assert found.keys == ("layer", "head")
    assert (found.only_a, found.only_b) == (1, 1)
    rows = found.rows.set_index(["layer", "head"])
    assert rows.index.tolist() == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert rows.loc[(0, 0), ["score (A)", "score (B)", "score (B − A)"]].tolist() == [0.5, 2.0, 1.5]
    assert rows.loc[(0, 0), "rank (B − A)"] == -1
    assert math.isnan(rows.loc[(1, 0), "score (B − A)"])
    assert math.isnan(rows.loc[(0, 1), "score (B)"]) and math.isnan(rows.loc[(1, 1), "score (A)"])
    # Without a figure that says what a row is, the columns from the left that suffice.
    assert join(HEADS_A, HEADS_B).keys == ("layer", "head")
    assert join(HEADS_A[["name", "layer", "score"]], HEADS_B[["name", "score"]]).keys == ("name",)


def test_what_is_the_same_in_both_stands_once():
    found = join(HEADS_A, HEADS_A.assign(score=[1.0, 1.0, 1.0]), ["name"])
    assert list(found.rows) == [
        "name", "layer", "head", "rank", "score (A)", "score (B)", "score (B − A)",
    ]  # fmt: skip
    assert found.rows["score (B − A)"].tolist()[:2] == [0.5, 2.0]


def test_measured_numbers_name_rows_only_if_both_have_the_same():
    sweep = pd.DataFrame({"density": [0.1, 0.3], "loss": [1.0, 2.0]})
    found = join(sweep, sweep.assign(loss=[3.0, 5.0]))
    assert found.keys == ("density",) and found.rows["loss (B − A)"].tolist() == [2.0, 3.0]
    with pytest.raises(InputError, match="no columns that both tables have"):
        join(sweep, sweep + 1)
    assert join(sweep, sweep + 1, ["density"]).only_a == 2
    one = sweep.head(1)
    assert join(one, one + 1).rows["loss (B − A)"].tolist() == [1.0]


def test_a_difference_is_b_less_a_where_both_have_the_mark():
    a, b = (result({"heads": rows}, {"heads": HEADS}) for rows in (HEADS_A, HEADS_B))
    chart, rows = difference(a, b, "heads")
    assert rows[["layer", "head", "difference"]].fillna(-9).to_numpy().tolist() == [
        [0, 0, 1.5], [1, 0, -9],
    ]  # fmt: skip
    assert (chart.kind, chart.value, chart.signed) == ("heatmap", "difference", True)
    assert chart.title == "Heads: B − A" and chart.label("value") == "score (nats), B − A"
    assert "2 marks that both have" in chart.alt
    assert len(chart.rows(rows)) == 2


@pytest.mark.parametrize("dtype", ["uint8", "uint64", "int8", "float16"])
def test_differences_of_narrow_numbers_do_not_wrap_around(dtype):
    a, b = (
        result({"heads": HEADS_A.assign(score=pd.Series(scores).astype(dtype))}, {"heads": HEADS})
        for scores in ([100, 2, 3], [0, 1, 3])
    )
    _, rows = difference(a, b, "heads")
    assert rows["difference"].tolist() == [-100, -1, 0]
    assert join(a.tables["heads"], b.tables["heads"], ["layer", "head"]).rows[
        "score (B − A)"
    ].tolist() == [-100, -1, 0]


def test_interventions_that_read_alike_are_told_apart():
    def made(lines, text):
        one = result({})
        record = {"interventions": lines, "interventions_json": text}
        return replace(one, provenance=one.provenance.model_copy(update=record))

    a = made(["steering by 1"], '{"vector": [1, 0]}')
    b = made(["steering by 1"], '{"vector": [0, 1]}')
    told = provenance_that_differs(a, b).set_index("of")
    assert told.loc["interventions in full"].tolist() == [
        '{"vector": [1, 0]}', '{"vector": [0, 1]}',
    ]  # fmt: skip
    told = provenance_that_differs(a, made(["steering by 2"], '{"vector": [0, 2]}'))
    assert "interventions" in told["of"].tolist()
    assert "interventions in full" not in told["of"].tolist()


def test_both_stand_on_one_scale():
    other = HEADS.model_copy(update={"title": "Heads of “x”"})
    a, b = (
        result({"heads": HEADS_A}, {"heads": HEADS}),
        result({"heads": HEADS_B}, {"heads": other}),
    )
    chart, rows = on_one_scale(a, b, "heads")
    assert chart.facet == "run" and chart.title == "A and B. A: Heads; B: Heads of “x”"
    assert rows["run"].tolist() == ["A"] * 3 + ["B"] * 3
    assert rows["score"].tolist()[3:] == [4.0, 2.0, 7.0]


def test_panels_lines_and_labels_of_both():
    curve = pd.DataFrame({"x": [0, 1], "token": ["a", "b"], "y": [1.0, 2.0], "part": ["p", "q"]})
    line = Chart(kind="line", table="curve", title="t", alt="a", x="x", y="y", x_text="token")
    panels = line.model_copy(update={"facet": "part"})
    figures = {"line": line, "panels": panels}
    a = result({"curve": curve}, figures)
    b = result({"curve": curve.assign(y=[5.0, 7.0], token=["a", "c"])}, figures)
    chart, _ = on_one_scale(a, b, "line")
    assert (chart.color, chart.facet, chart.x_text) == ("run", None, None)  # b and c share a place
    chart, rows = on_one_scale(a, b, "panels")
    assert (chart.color, chart.facet) == ("run", "part")
    chart, rows = difference(a, b, "line")
    assert (chart.y, chart.x_text, rows["difference"].tolist()) == ("difference", None, [4.0, 5.0])
    chart, _ = difference(a, a, "line")
    assert chart.x_text == "token"


def test_panels_of_both_stand_next_to_each_other():
    cells = Chart(**{**HEADS.model_dump(), "x": "rank", "facet": "head"})
    a, b = (result({"heads": rows}, {"heads": cells}) for rows in (HEADS_A, HEADS_B))
    chart, rows = on_one_scale(a, b, "heads")
    assert chart.facet == "panel"
    assert list(dict.fromkeys(rows["panel"])) == ["0, A", "0, B", "1, A", "1, B"]
    assert rows["score"].tolist()[2:4] == [4.0, 2.0]


def test_what_cannot_be_compared_is_refused():
    points = Chart(kind="points", table="heads", title="t", alt="a", x="layer", y="score")
    a = result({"heads": HEADS_A}, {"heads": HEADS, "points": points})
    b = result({"heads": HEADS_B}, {"heads": points, "points": points})
    with pytest.raises(InputError, match="drawn alike"):
        difference(a, b, "heads")
    with pytest.raises(InputError, match="must have partners"):
        difference(a, b, "points")
    with pytest.raises(InputError, match="unknown figure of both look and look 'other'"):
        on_one_scale(a, b, "other")
    far = result({"heads": HEADS_B.assign(layer=HEADS_B["layer"] + 7)}, {"heads": HEADS})
    with pytest.raises(InputError, match="share marks"):
        difference(a, far, "heads")
