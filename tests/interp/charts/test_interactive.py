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
