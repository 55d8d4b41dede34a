import numpy as np
import pytest

pytest.importorskip("plotly", reason="needs the extra 'dashboard'")

from interp.charts.interactive import draw


def test_every_kind_is_drawn_with_its_alternative(any_case):
    chart, table = any_case
    figure = draw(chart, table)
    assert figure.data
    assert figure.layout.meta["alt"] == chart.alt
    assert figure.layout.title.text == "A &lt;title&gt; &amp; &#36;more&#36;"
    figure.to_json()


def test_attention_labels_positions_and_keeps_equal_tokens_apart(case):
    figure = draw(*case("attention"))
    assert list(figure.layout.xaxis.tickvals) == [0, 1, 2, 3, 4, 5]
    assert figure.layout.xaxis.ticktext[1] == "·cost₁"
    assert figure.layout.xaxis.ticktext[4] == "·cost₄"
    assert figure.layout.yaxis.autorange == "reversed"
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (0, 1)
    values = np.array(figure.data[0].z, dtype=float)
    assert np.isnan(values[0, 1]) and values[1, 0] == 0.5
    assert figure.data[0].customdata[3][1].tolist() == ["·cost₁ (1)", "&#36; (3)"]


def test_facets_make_panels_with_one_scale(case):
    figure = draw(*case("facets"))
    assert [note.text for note in figure.layout.annotations] == ["head 0", "head 1", "head 2"]
    assert {trace.coloraxis for trace in figure.data} == {"coloraxis"}


def test_groups_become_traces(case):
    chart, table = case("groups")
    figure = draw(chart, table)
    assert [trace.name for trace in figure.data] == ["0", "1", "2"]
    np.testing.assert_array_equal(figure.data[1].y, table["v"][table["layer"] == 1])


def test_errors_are_drawn_and_told(case):
    for name in ("error-bars", "error-bands"):
        chart, table = case(name)
        trace = draw(chart, table).data[0]
        expected = table["se"][table["run"] == "a"]
        np.testing.assert_array_equal(np.array(trace.error_y.array, float), expected)
        assert "±" in trace.hovertemplate


def test_logarithmic_axes(case):
    layout = draw(*case("error-bands")).layout
    assert (layout.xaxis.type, layout.yaxis.type) == ("log", "log")
    layout = draw(*case("line")).layout
    assert (layout.xaxis.type, layout.yaxis.type) == (None, None)


def test_a_graph_tells_each_edge_under_the_pointer(case):
    chart, table = case("graph")
    figure = draw(chart, table)
    assert [note.text for note in figure.layout.annotations] == ["embed", "L0H0", "&#36;logits"]
    assert len(figure.layout.shapes) == 3
    (hover,) = [trace for trace in figure.data if trace.text is not None]
    assert set(hover.text) == {
        "embed → L0H0 (q): -1",
        "embed → L0H0 (v): 2",
        "embed → &#36;logits (): 0.5",
        "L0H0 → &#36;logits (): no number",
    }
    legend = [(trace.legendgrouptitle.text, trace.name) for trace in figure.data
              if trace.showlegend is not False]  # fmt: skip
    groups = [("through", "q"), ("through", "v"), ("through", "")]
    assert legend == [*groups, ("v", "below zero"), ("v", "2"), ("v", "1")]
    (heads,) = [trace for trace in figure.data if trace.marker.symbol == "arrow"]
    assert len(heads.x) == 4
    lines = [trace for trace in figure.data if trace.mode == "lines" and not trace.showlegend]
    drawn = [trace for trace in lines if trace.x[0] is not None]
    assert sum(int(np.isnan(np.array(trace.x, float)).sum()) for trace in drawn) == 4
    assert {trace.line.dash for trace in drawn} == {"solid", "dash"}


def test_vectors_go_from_the_origin_and_back(case):
    chart, table = case("vectors")
    figure = draw(chart, table)
    assert len(figure.data) == 6
    rows = table[(table["model"] == 0) & (table["kind"] == "a")]
    np.testing.assert_array_equal(figure.data[0].x[1::3], rows["u"])
    np.testing.assert_array_equal(figure.data[0].y[1::3], rows["v"])
    assert not any(figure.data[0].x[::3]) and not any(figure.data[0].y[2::3])
    assert figure.data[0].marker.size[:3] == (0, 6, 0)
    assert [trace.showlegend for trace in figure.data] == [True, True, *[False] * 4]
    reach = 1.1 * table[["u", "v"]].abs().to_numpy().max()
    for side in ("x", "y"):
        axis = figure.layout[f"{side}axis2"]
        assert axis.range == pytest.approx((-reach, reach))
    assert figure.layout.yaxis2.scaleanchor == "x2"


def test_points_share_their_axes(case):
    chart, table = case("points")
    figure = draw(chart, table)
    assert (figure.layout.xaxis.type, figure.layout.yaxis.type) == ("log", "linear")
    np.testing.assert_array_equal(figure.data[1].x, table["step"][table["run"] == "b"])
