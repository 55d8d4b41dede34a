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
        ({"error": "tag"}, "a heatmap chart has no use for the column 'error'"),
        ({"kind": "graph"}, "a graph chart needs the column 'x_level'"),
        ({"log_x": True}, "only charts of lines or points have logarithmic axes, not a heatmap"),
        ({"kind": "bars", "y": None, "log_y": True}, "only charts of lines or points"),
        ({"kind": "line", "value": None, "log_x": True, "x_text": "tag"}, "numbers"),
        ({"kind": "line", "value": None, "log_y": True, "signed": True}, "neither signed"),
        ({"kind": "line", "value": None, "log_y": True, "probability": True}, "neither signed"),
        ({"kind": "points"}, "a points chart has no use for the column 'value'"),
        ({"vectors": True}, "vectors are points on plain axes"),
        ({"kind": "points", "value": None, "vectors": True, "log_x": True}, "on plain axes"),
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


def line(**changes):
    fields = {"kind": "line", "table": "t", "title": "T", "alt": "A", "x": "step", "y": "loss"}
    return Chart(**fields | changes)


STEPS = pd.DataFrame({"step": [1, 10, 100], "loss": [2.0, 1.0, 0.5], "se": [0.1, None, 0.0]})


def test_an_error_may_be_missing_but_not_negative():
    assert len(line(error="se").rows(STEPS)) == 3
    with pytest.raises(InputError, match="errors in 'se' must be at least 0"):
        line(error="se").rows(STEPS.assign(se=[0.1, -0.1, 0.0]))
    with pytest.raises(InputError, match="column 'se' must hold numbers"):
        line(error="se").rows(STEPS.assign(se=list("abc")))


@pytest.mark.parametrize(
    ("axis", "column", "value", "message"),
    [
        ("log_x", "step", 0, "a logarithmic axis needs numbers above 0 in 'step', got 0"),
        ("log_y", "loss", 0.0, "a logarithmic axis needs numbers above 0 in 'loss', got 0.0"),
        ("log_y", "loss", -1.0, "got -1.0"),
        ("log_x", "step", "a", "column 'step' must hold numbers"),
    ],
)
def test_logarithmic_axes_need_positive_numbers(axis, column, value, message):
    chart = line(**{axis: True})
    assert len(chart.rows(STEPS)) == 3
    with pytest.raises(InputError, match=message):
        chart.rows(STEPS.assign(**{column: [value, *STEPS[column][1:]]}))


EDGES = pd.DataFrame(
    {
        "source": ["embed", "embed", "L0H0"],
        "target": ["L0H0", "logits", "logits"],
        "score": [1.0, -2.0, 0.5],
        "low": [0, 0, 1],
        "high": [1, 2, 2],
        "kind": ["q", "", ""],
    }
)


def graph(**changes):
    fields = {"kind": "graph", "table": "t", "title": "T", "alt": "A", "value": "score"}
    ends = {"x": "source", "y": "target", "x_level": "low", "y_level": "high"}
    return Chart(**fields | ends | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"low": [0, 0, 1.5]}, "node 'L0H0' has several levels, 1.5 and 1"),
        ({"high": [1, 2, 3]}, "node 'logits' has several levels, 2 and 3"),
        ({"low": [1, 1, 1]}, "must lead to a higher level, got 'embed' at 1 → 'L0H0' at 1"),
        ({"low": [0, 0, None]}, "column 'low' has missing values"),
        ({"high": list("abc")}, "column 'high' must hold numbers"),
        ({"target": ["L0H0", "L0H0", "logits"]}, "several rows fall on one mark"),
        ({"source": ["embed", None, "L0H0"]}, "column 'source' has missing values"),
    ],
)
def test_graphs_that_do_not_fit_are_refused(changes, message):
    assert len(graph().rows(EDGES)) == 3
    with pytest.raises(InputError, match=message):
        graph().rows(EDGES.assign(**changes))


def test_edges_of_different_groups_may_join_the_same_nodes():
    twice = EDGES.assign(target=["L0H0", "L0H0", "logits"], high=[1, 1, 2])
    assert len(graph(color="kind").rows(twice)) == 3
