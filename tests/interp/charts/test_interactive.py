import numpy as np
import pandas as pd
import pytest

pytest.importorskip("plotly", reason="needs the extra 'dashboard'")

from interp.charts import Chart
from interp.charts.interactive import MOST_CLICKABLE, draw
from interp.charts.palette import DARK, LIGHT
from interp.errors import InputError


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
    assert figure.layout.yaxis.range == (5.5, -0.5)  # the first on top
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (0, 1)
    values = np.array(figure.data[0].z, dtype=float)
    assert np.isnan(values[0, 1]) and values[1, 0] == 0.5
    aliases = figure.layout.xaxis.labelalias, figure.layout.yaxis.labelalias
    assert [each[i] for each, i in zip(aliases, ("1", "3"), strict=True)] == [
        "·cost₁ (1)", "&#36; (3)",
    ]  # fmt: skip
    assert "k: %{x}<br>q: %{y}<br>" in figure.data[0].hovertemplate
    assert figure.data[0].customdata is None  # labels are sent once, not in every cell


def test_facets_make_panels_with_one_scale(case):
    figure = draw(*case("facets"))
    assert [note.text for note in figure.layout.annotations] == ["head 0", "head 1", "head 2"]
    assert {trace.coloraxis for trace in figure.data} == {"coloraxis"}


def test_panels_have_a_row_and_a_column_and_are_their_figures_own(case):
    first, second = (draw(*case("facets")) for _ in range(2))
    as_drawn = second.to_json()
    first.update_xaxes(title_text="changed", row=1, col=3)
    first.layout.annotations[0].text = "changed"
    titles = [first.layout[axis].title.text for axis in ("xaxis", "xaxis2", "xaxis3")]
    assert titles == ["k", "k", "changed"]
    assert second.to_json() == as_drawn == draw(*case("facets")).to_json()


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


def lens(n_x=4, n_y=3, **changes):
    """A heatmap with a text in each cell, one of which has no number and one no row."""
    rows = [(x, y, x / 10 + y / 100, f" w{x}<{y}") for x in range(n_x) for y in range(n_y)]
    table = pd.DataFrame(rows, columns=["x", "y", "v", "top"]).drop(index=1)
    table.loc[0, "v"] = np.nan
    fields = {"kind": "heatmap", "table": "t", "title": "T", "alt": "A", "x": "x", "y": "y"}
    return Chart(**fields | {"value": "v", "text": "top"} | changes), table


def colors_in(figure):
    """Every hex colour that a figure and its template name."""
    import re

    return set(re.findall(r"#[0-9a-f]{6}", str(figure.to_dict())))


def test_a_dark_figure_has_the_dark_theme_alone(any_case):
    figure = draw(*any_case, dark=True)
    assert {box.fillcolor for box in figure.layout.shapes} <= {DARK.paper}
    light, dark = colors_in(draw(*any_case)), colors_in(figure)
    known = {
        theme: {c for part in vars(theme).values() for c in ([part] if part[0] == "#" else part)}
        for theme in (LIGHT, DARK)
    }
    assert dark <= known[DARK] and light <= known[LIGHT]
    assert {DARK.ink, DARK.paper} <= dark and {LIGHT.ink, LIGHT.paper} <= light


@pytest.mark.parametrize("dark", [False, True])
def test_scales_and_blank_cells_of_a_theme(case, dark):
    theme = DARK if dark else LIGHT
    layout = draw(*case("heatmap"), dark=dark).layout
    stops = layout.coloraxis.colorscale
    assert [color for _, color in stops] == list(theme.diverging)
    assert stops[len(stops) // 2] == (0.5, theme.diverging[5])  # zero, for the ends are symmetric
    assert layout.coloraxis.cmin == -layout.coloraxis.cmax
    layout = draw(*case("attention"), dark=dark).layout
    assert [color for _, color in layout.coloraxis.colorscale] == list(theme.sequential)
    assert (layout.plot_bgcolor, layout.template.layout.paper_bgcolor) == (theme.blank, theme.paper)
    bars = draw(*case("bars"), dark=dark).data[0]
    signs = np.sign(np.array(bars.y, float)).tolist()
    assert bars.marker.color == tuple(
        theme.negative if sign < 0 else theme.positive for sign in signs
    )


def test_cells_that_do_not_exist_are_absent_not_zero(case):
    chart, table = case("facets")
    figure = draw(chart, table)
    for head, heatmap in enumerate(figure.data):
        values = np.array(heatmap.z, float)
        expected = np.full((6, 6), np.nan)
        for row in table[table["head"] == head].itertuples():
            expected[row.q, row.k] = row.p
        np.testing.assert_array_equal(values, expected)
        assert heatmap.hoverongaps is False
        assert np.isnan(values).sum() == 15
    nothing = table.assign(p=np.nan)
    assert np.isnan(np.array(draw(chart, nothing).data[0].z, float)).all()


@pytest.mark.parametrize("name", ["attention", "facets", "heatmap"])
def test_every_cell_that_exists_can_be_selected(case, name):
    chart, table = case(name)
    figure = draw(chart, table, clickable=True)
    heatmaps, points = figure.data[::2], figure.data[1::2]
    rows = chart.rows(table)
    keys = [chart.x, chart.y, *([chart.facet] if chart.facet else [])]
    told = [cell[: len(keys)] for each in points for cell in each.customdata]
    assert sorted(told) == sorted(rows[keys].to_numpy().tolist())
    for heatmap, each in zip(heatmaps, points, strict=True):
        assert heatmap.hoverinfo == "skip" and (heatmap.xaxis, heatmap.yaxis) == (
            each.xaxis,
            each.yaxis,
        )
        values = np.array(heatmap.z, float)
        under = [values[y, x] for x, y in zip(each.x, each.y, strict=True)]
        np.testing.assert_array_equal(under, each.marker.color)
        assert (each.marker.opacity, each.selected.marker.opacity) == (0, 0)
        assert each.unselected.marker.opacity == 0
    assert figure.layout.clickmode == "event+select"
    n_y, n_x = np.array(heatmaps[0].z).shape
    assert figure.layout.xaxis.range == (-0.5, n_x - 0.5)  # points do not widen it
    assert figure.layout.yaxis.range == (n_y - 0.5, -0.5)


def test_what_cannot_be_clicked_is_refused(case):
    with pytest.raises(InputError, match=r"only heatmaps have clickable cells\. Received 'bars'"):
        draw(*case("bars"), clickable=True)
    side = int(MOST_CLICKABLE**0.5) + 1
    x, y = np.mgrid[0:side, 0:side]
    table = pd.DataFrame({"x": x.ravel(), "y": y.ravel(), "v": 0.0})
    chart = Chart(kind="heatmap", table="t", title="T", alt="A", x="x", y="y", value="v")
    with pytest.raises(
        InputError, match=r"at most 40,000 cells can be clickable\. Received 40,401"
    ):
        draw(chart, table, clickable=True)


def test_texts_are_written_in_cells_and_told():
    figure = draw(*lens(), clickable=True)
    heatmap, points = figure.data
    assert np.array(heatmap.text).tolist() == [
        ["", "·w1&lt;0", "·w2&lt;0", "·w3&lt;0"],
        ["", "·w1&lt;1", "·w2&lt;1", "·w3&lt;1"],
        ["·w0&lt;2", "·w1&lt;2", "·w2&lt;2", "·w3&lt;2"],
    ]
    assert heatmap.texttemplate == "%{text}" and heatmap.textfont.size == 12
    assert len(points.text) == 10 and points.text[0] == "·w1&lt;0"
    assert "top: %{text}" in points.hovertemplate
    crowd = draw(*lens(120)).data[0]
    assert crowd.texttemplate is None and "top: %{text}" in crowd.hovertemplate


def test_labels_are_no_fields():
    told = draw(*lens(x_label="a%{y}", y_label="a%{y}")).data[0].hovertemplate
    assert told == (
        "a%&#123;y}: %{x}<br>a%&#123;y}: %{y}<br>v: %{z:.4g}<br>top: %{text}<extra></extra>"
    )


@pytest.mark.parametrize("name", ["vectors", "attention"])
def test_units_are_equal_along_both_axes(case, name):
    figure = draw(*case(name))
    x_axes = {axis.plotly_name for axis in figure.select_xaxes()}
    anchors = {axis.scaleanchor.replace("x", "xaxis") for axis in figure.select_yaxes()}
    assert anchors == x_axes


def test_one_panel_of_vectors_has_equal_units():
    rows = pd.DataFrame({"x": [1.0, -2.0], "y": [0.5, 1.0]})
    chart = Chart(kind="points", table="t", title="T", alt="A", x="x", y="y", vectors=True)
    assert draw(chart, rows).layout.yaxis.scaleanchor == "x"
