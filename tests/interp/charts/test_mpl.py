import numpy as np
import pandas as pd
import pytest

pytest.importorskip("seaborn", reason="needs the extra 'plots'")

from matplotlib import pyplot, rcParams

from interp.charts import Chart
from interp.charts.export import png, svg
from interp.charts.mpl import draw
from interp.charts.palette import NEGATIVE, POSITIVE
from tests.covering import every_nth


def tick_texts(axes, side):
    return [label.get_text() for label in getattr(axes, f"get_{side}ticklabels")()]


def test_every_kind_is_drawn_without_global_state(any_case):
    before = dict(rcParams)
    figure = draw(*any_case)
    assert figure.axes[0].has_data()
    assert pyplot.get_fignums() == []
    assert dict(rcParams) == before


def test_attention_has_the_first_token_on_top_and_the_source_on_x(case):
    axes = draw(*case("attention")).axes[0]
    values = np.asarray(axes.collections[0].get_array()).reshape(6, 6)
    np.testing.assert_allclose(values[2, :3], 1 / 3)
    assert np.ma.masked_invalid(axes.collections[0].get_array()).mask.sum() == 15
    assert axes.yaxis_inverted()
    assert tick_texts(axes, "x") == ["<s>", "·cost₁", "·$5", "$", "·cost₄", "↵"]
    assert axes.collections[0].get_clim() == (0, 1)


def test_signed_colors_are_centred_at_zero(case):
    low, high = draw(*case("heatmap")).axes[0].collections[0].get_clim()
    assert low == -high < 0


def test_facets_share_one_scale(case):
    figure = draw(*case("facets"))
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == ["head 0", "head 1", "head 2"]
    assert len(figure.axes) == 4  # and one colour bar


def test_signed_bars_tell_the_sign_by_color(case):
    from matplotlib.colors import to_hex

    bars = draw(*case("bars")).axes[0].patches
    for bar in bars:
        assert to_hex(bar.get_facecolor()) == (NEGATIVE if bar.get_height() < 0 else POSITIVE)


def test_long_axes_are_thinned_and_bounded():
    table = pd.DataFrame([{"x": i, "y": j, "v": i * j} for i in range(120) for j in range(120)])
    chart = Chart(kind="heatmap", table="t", title="T", alt="A", x="x", y="y", value="v")
    figure = draw(chart, table)
    assert max(figure.get_size_inches()) < 14
    assert len(tick_texts(figure.axes[0], "y")) < 60
    assert not figure.axes[0].texts
    assert "<image" in svg(figure, chart)  # stored as pixels


def test_few_cells_carry_their_numbers(case):
    chart, table = case("heatmap")
    texts = [text.get_text() for text in draw(chart, table).axes[0].texts]
    assert texts == [f"{v:.2g}" for v in table["v"]]


def test_rounding_noise_is_written_as_nothing():
    table = pd.DataFrame({"x": range(4), "y": 0, "v": [2.0, -1.8e-8, 3e-3, np.nan]})
    chart = Chart(kind="heatmap", table="t", title="T", alt="A", x="x", y="y", value="v")
    texts = [text.get_text() for text in draw(chart, table).axes[0].texts]
    assert texts == ["2", "0", "0.003"]
    tiny = [text.get_text() for text in draw(chart, table.assign(v=table["v"] / 1e9)).axes[0].texts]
    assert tiny == ["2e-09", "0", "3e-12"]  # beside numbers as small as these they are not nothing


@pytest.mark.parametrize(
    ("kind", "n_places"),
    [(k, n) for i, n in enumerate((3, 13, 40)) for k in every_nth(("bars", "heatmap"), 2, i)],
)
def test_panels_fit_a_page_and_their_labels_do_not_collide(kind, n_places):
    """Each row of panels is about a page wide; no axis name runs into the next panel's."""
    rows = [(f, i, f"w{i}", 1.0) for f in "abcde" for i in range(n_places)]
    table = pd.DataFrame(rows, columns=["f", "i", "w", "v"]).assign(y=0)
    columns = {"x": "i", "x_text": "w", "value": "v", "x_label": "position (tokens of pair 0)"}
    if kind == "heatmap":
        columns["y"] = "y"
    figure = draw(Chart(kind=kind, table="t", title="T", alt="A", facet="f", **columns), table)
    assert figure.get_size_inches()[0] < 14
    boxes = [axes.xaxis.label.get_window_extent() for axes in figure.axes if axes.get_xlabel()]
    assert len(boxes) >= 3
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_short_names_are_turned_rather_than_left_out():
    names = [f"L1H{i}" for i in range(4)]
    table = pd.DataFrame([(f, n, 1.0) for f in "abc" for n in names], columns=["f", "n", "v"])
    chart = Chart(kind="heatmap", table="t", title="T", alt="A", x="n", y="f", value="v", facet="f")
    axes = draw(chart, table.assign(y=0)).axes
    assert tick_texts(axes[0], "x") == names
    assert {label.get_rotation() for label in axes[0].get_xticklabels()} == {90}
    numbers = table.assign(n=table["n"].map(lambda name: 100 + int(name[-1])))
    assert tick_texts(draw(chart, numbers).axes[0], "x") == ["100", "102"]


def test_svg_tells_title_and_alternative(case):
    import xml.etree.ElementTree as ET

    chart, table = case("attention")
    text = svg(draw(chart, table), chart)
    root = ET.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    assert root.get("role") == "img"
    assert root[0].tag == f"{space}title" and root[0].text == chart.title
    assert root[1].tag == f"{space}desc" and root[1].text == chart.alt
    assert "·$5" in "".join(root.itertext())  # a dollar is a dollar, not mathematics
    assert svg(draw(chart, table), chart) == text


def test_png_tells_title_and_alternative(case):
    chart, table = case("line")
    data = png(draw(chart, table), chart)
    assert data.startswith(b"\x89PNG")
    assert b"Description\x00" + chart.alt.encode() in data


def test_written_files(tmp_path, case):
    from interp.charts.export import write_png, write_svg

    chart, table = case("bars")
    figure = draw(chart, table)
    write_svg(tmp_path / "a.svg", figure, chart)
    write_png(tmp_path / "a.png", figure, chart)
    assert (tmp_path / "a.svg").read_text(encoding="utf-8") == svg(figure, chart)
    assert (tmp_path / "a.png").read_bytes() == png(figure, chart)
    assert len(list(tmp_path.iterdir())) == 2


def test_error_bars_reach_as_far_as_the_table_says(case):
    chart, table = case("error-bars")
    first = draw(chart, table).axes[0].containers
    bars = [each for each in first if hasattr(each, "errorbar")]
    rows = table[table["run"] == "a"]
    segments = bars[0].errorbar.lines[2][0].get_segments()
    for (_, row), segment in zip(rows.iterrows(), segments, strict=False):
        if np.isfinite(row["se"]):
            ends = [row["v"] - row["se"], row["v"] + row["se"]]
            np.testing.assert_allclose(segment[:, 1], ends)
    assert [len(segment) for segment in segments] == [2, 2, 0]  # none where it is missing


def test_error_bands_and_logarithmic_axes(case):
    chart, table = case("error-bands")
    axes = draw(chart, table).axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert "100" in tick_texts(axes, "x")  # no TeX, which would be shown as it is
    band = axes.collections[0].get_paths()[0].vertices
    rows = table[table["run"] == "a"].dropna()
    assert {*np.round(rows["v"] - rows["se"], 9)} <= {*np.round(band[:, 1], 9)}
    assert {*np.round(rows["v"] + rows["se"], 9)} <= {*np.round(band[:, 1], 9)}


def test_a_graph_has_a_box_for_each_node_and_an_arrow_for_each_edge(case):
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

    chart, table = case("graph")
    figure = draw(chart, table)
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["embed", "L0H0", "$logits"]
    boxes = [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    arrows = [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
    assert (len(boxes), len(arrows)) == (3, 4)
    widths = [arrow.get_linewidth() for arrow in arrows]  # in the order of |value|
    assert widths == sorted(widths) and len(set(widths)) == 4
    (legend,) = figure.legends
    entries = [text.get_text() for text in legend.get_texts()]
    # The groups under their column's name, the widths under that of the values.
    assert legend.get_title().get_text() == "through"
    assert entries == ["q", "v", "", "v", "below zero", "2", "1"]
    assert all(box.get_x() >= 0 and box.get_x() <= axes.get_xlim()[1] for box in boxes)


def test_the_legend_has_the_colors_of_groups_that_the_first_panel_lacks():
    from matplotlib.colors import to_hex

    table = pd.DataFrame(
        {"at": [0, 0, 0], "part": ["a", "a", "b"], "of": ["x", "y", "y"], "n": [1.0, 2.0, 3.0]}
    )
    chart = Chart(
        kind="bars", table="t", title="T", alt="A", x="at", value="n", color="part", facet="of"
    )
    figure = draw(chart, table)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]
    bars = {patch.get_height(): to_hex(patch.get_facecolor()) for patch in figure.axes[1].patches}
    shown = [to_hex(handle.get_facecolor()) for handle in legend.get_patches()]
    assert shown == [bars[2.0], bars[3.0]] and shown[0] != shown[1]


def test_points_stand_where_the_table_says(case):
    chart, table = case("points")
    figure = draw(chart, table)
    (axes,) = figure.axes
    assert axes.get_xscale() == "log" and axes.get_yscale() == "linear"
    for dots, run in zip(axes.collections, "ab", strict=True):
        rows = table[table["run"] == run]
        np.testing.assert_array_equal(dots.get_offsets(), rows[["step", "v"]].to_numpy(float))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["a", "b"]


def test_vectors_start_at_the_origin_on_square_panels_of_one_scale(case):
    chart, table = case("vectors")
    figure = draw(chart, table)
    reach = 1.1 * table[["u", "v"]].abs().to_numpy().max()
    for i, axes in enumerate(figure.axes):
        assert axes.get_xlim() == axes.get_ylim() == pytest.approx((-reach, reach))
        assert axes.get_aspect() == 1
        ends = np.array([line.get_xydata() for line in axes.lines if len(line.get_xydata()) == 2])
        joined = [end for end in ends if not np.array_equal(end, [[0, 0], [1, 0]])]
        found = {tuple(end[1]) for end in joined if not end[0].any()}
        rows = table[table["model"] == i][["u", "v"]]
        assert found >= set(map(tuple, rows.to_numpy()))


def test_texts_are_written_in_the_cells_that_have_a_number():
    rows = [(x, y, x / 4, f" tok{x}{y}" + "g" * y * 9) for x in range(4) for y in range(2)]
    table = pd.DataFrame(rows, columns=["x", "y", "v", "top"]).drop(index=0)
    table.loc[2, "v"] = np.nan
    chart = Chart(
        kind="heatmap", table="t", title="T", alt="A", x="x", y="y", value="v", text="top",
        probability=True,
    )  # fmt: skip
    figure = draw(chart, table)
    texts = [text.get_text() for text in figure.axes[0].texts]
    long = [f"·tok{x}1ggg…" for x in range(4)]
    assert texts == ["·tok20", "·tok30", *long]
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_panel_without_any_number_is_blank(case):
    chart, table = case("facets")
    figure = draw(chart, table.assign(p=table["p"].where(table["head"] > 0)))
    first, second = (
        np.ma.masked_invalid(axes.collections[0].get_array()) for axes in figure.axes[:2]
    )
    assert first.mask.all() and second.mask.sum() == 15


@pytest.mark.parametrize("kind", ["bars", "line", "points"])
def test_the_legend_has_groups_whose_names_begin_with_an_underscore(kind):
    """matplotlib leaves such names out of a legend that it makes by itself."""
    table = pd.DataFrame({"i": [0, 1, 0, 1], "v": [1.0, 2, 3, 4], "g": ["_a", "_a", "b", "b"]})
    measure = {"value": "v"} if kind == "bars" else {"y": "v"}
    chart = Chart(kind=kind, table="t", title="T", alt="A", x="i", color="g", **measure)
    (legend,) = draw(chart, table).legends
    assert [text.get_text() for text in legend.get_texts()] == ["_a", "b"]


def test_points_that_are_infinitely_far_away_are_left_out():
    """Of vectors the axes went to infinity."""
    table = pd.DataFrame({"x": [1.0, np.inf, -2.0], "y": [np.inf, 1.0, 0.5]})
    chart = Chart(kind="points", table="t", title="T", alt="A", x="x", y="y", vectors=True)
    (axes,) = draw(chart, table).axes
    assert axes.get_xlim() == axes.get_ylim() == pytest.approx((-2.2, 2.2))
