import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from analyses import Check
from interp.charts import Chart
from interp.errors import InputError


@pytest.mark.parametrize(
    ("value", "tolerance", "passed"),
    [(1e-6, 1e-5, True), (1e-5, 1e-5, True), (2e-5, 1e-5, False), (float("nan"), 1.0, False)],
)
def test_check_passes_within_its_tolerance(value, tolerance, passed):
    assert Check("c", value, tolerance).passed is passed


@pytest.mark.parametrize("value", [np.float32(0.5), torch.tensor(0.5), np.array(0.5)])
def test_check_takes_any_single_number(value):
    check = Check("c", value, 1)
    assert type(check.value) is float and check.value == 0.5


def test_check_refuses_what_is_not_a_number():
    with pytest.raises(ValidationError, match="value"):
        Check("c", "large", 1.0)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pd.DataFrame({"a": [1, 2]}, index=[5, 6]), r"index 0..n-1: call reset_index\(\)"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "distinct text column names"),
        (pd.DataFrame([[1, 2]]), "distinct text column names"),
        (pd.DataFrame({"a": [[1], [2]]}), "column 'a' of table 't' must hold str, int, float"),
        (pd.DataFrame({"a": pd.to_datetime(["2020-01-01"])}), "got datetime"),
        (pd.DataFrame({"a": pd.Series([1, "x"], dtype=object)}), "got mixed"),
        (pd.DataFrame({"a": pd.Series(["x", None], dtype=object)}), "got mixed"),
    ],
)
def test_untidy_tables_are_refused(make_result, table, message):
    with pytest.raises(InputError, match=message):
        make_result(tables={"t": table}, figures={})


@pytest.mark.parametrize("name", ["Up", "a/b", "..", "", "a b"])
def test_names_must_be_file_names(make_result, name):
    with pytest.raises(InputError, match="lower-case letters"):
        make_result(name=name)
    with pytest.raises(InputError, match="lower-case letters"):
        make_result(tables={name: pd.DataFrame()}, figures={})


def test_a_result_reports_at_least_one_check(make_result):
    with pytest.raises(InputError, match="at least one check"):
        make_result(checks=[])


def test_figures_must_fit_their_tables(make_result):
    chart = Chart(kind="bars", table="other", title="T", alt="A", x="layer", value="score")
    with pytest.raises(InputError, match="drawn from table 'other', which is not"):
        make_result(figures={"f": chart})
    with pytest.raises(InputError, match=r"column 'depth' \(x\) is missing"):
        make_result(figures={"f": chart.model_copy(update={"table": "scores", "x": "depth"})})


def test_repr_tells_sizes_and_failures(make_result):
    text = repr(make_result())
    assert text == (
        "AnalysisResult('demo', tables: scores 4x4, small 4x4; figures: scores; "
        "checks: 1 of 2 FAILED)"
    )


def test_passed_needs_every_check(make_result):
    assert not make_result().passed
    assert make_result(checks=[Check("c", 0, 0)]).passed


def test_notebook_html_stands_alone(make_result):
    pytest.importorskip("seaborn", reason="needs the extra 'plots'")
    html = make_result()._repr_html_()
    assert "<html" not in html and "<svg" in html and "Which &lt;layer&gt; scores?" in html
