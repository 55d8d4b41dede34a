import pandas as pd
import pytest
from pydantic import ValidationError

from interp.charts import Chart
from interp.errors import InputError

TABLE = pd.DataFrame(
    {
        "layer": [0, 0, 1, 1],
        "head": [0, 1, 0, 1],
        "score": [0.1, 0.2, 0.3, 0.4],
        "tag": list("abab"),
    }
)


def heatmap(**changes):
    fields = {"kind": "heatmap", "table": "t", "title": "T", "alt": "A"}
    return Chart(**fields | {"x": "head", "y": "layer", "value": "score"} | changes)


def test_json_round_trip_is_exact():
    chart = heatmap(where={"layer": 1, "tag": "a", "score": 0.1, "on": True}, signed=True)
    again = Chart.model_validate_json(chart.model_dump_json())
    assert again == chart
    assert [type(v) for v in again.where.values()] == [int, str, float, bool]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": None}, "a heatmap chart needs the column 'value'"),
        ({"kind": "line", "value": None, "y": None}, "a line chart needs the column 'y'"),
        ({"kind": "bars", "y": None, "value": None}, "a bars chart needs the column 'value'"),
        ({"color": "tag"}, "a heatmap chart has no use for the column 'color'"),
        ({"kind": "bars"}, "a bars chart has no use for the column 'y'"),
        ({"alt": " "}, "text alternative"),
        ({"signed": True, "probability": True}, "not both"),
        ({"colour": "tag"}, "colour"),
    ],
)
def test_wrong_specs_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        heatmap(**changes)


def test_chart_is_immutable():
    with pytest.raises(ValidationError):
        heatmap().title = "other"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"value": "scores"},
            r"column 'scores' \(value\) is missing; it has layer, head, score, tag",
        ),
        ({"where": {"depth": 1}}, r"column 'depth' \(where\) is missing"),
        ({"where": {"layer": 7}}, "no row has {'layer': 7}"),
        ({"value": "tag"}, "column 'tag' must hold numbers"),
        ({"y": "tag", "x": "tag"}, "several rows fall on one mark, tag='a', tag='a'"),
    ],
)
def test_tables_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        heatmap(**changes).rows(TABLE)


def test_a_row_without_a_place_is_refused():
    with pytest.raises(InputError, match="column 'tag' has missing values"):
        heatmap(x="tag").rows(TABLE.assign(tag=["a", None, "a", "b"]))


def test_a_probability_out_of_range_is_refused():
    with pytest.raises(InputError, match=r"probabilities in 'score' must lie in 0..1, got 1.5"):
        heatmap(probability=True).rows(TABLE.assign(score=[0, 0.5, 1.5, 1]))


def test_where_keeps_matching_rows():
    assert heatmap(where={"layer": 1}).rows(TABLE)["score"].tolist() == [0.3, 0.4]


def test_attention_is_a_probability_unless_signed():
    assert heatmap(kind="attention").is_probability
    assert not heatmap(kind="attention", signed=True).is_probability
    assert not heatmap().is_probability


def test_labels_default_to_columns():
    chart = heatmap(value_label="score (nats)")
    assert (chart.label("x"), chart.label("value")) == ("head", "score (nats)")
