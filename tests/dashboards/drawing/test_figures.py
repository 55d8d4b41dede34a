"""Charts and tables on a page, and what they are exported as."""

from __future__ import annotations

import io
from html.parser import HTMLParser

import pandas as pd
import pytest

pytest.importorskip("streamlit", reason="needs the extra 'dashboard'")
pytest.importorskip("plotly", reason="needs the extra 'dashboard'")
pytest.importorskip("seaborn", reason="needs the extra 'plots'")

from streamlit.testing.v1 import AppTest

from dashboards.drawing import figures
from interp.charts import Chart
from tests.dashboards.screen import figures as drawn_in
from tests.dashboards.screen import html, said


def _page(on_select: bool, rows: int) -> None:
    import pandas as pd
    import streamlit as st

    from dashboards.drawing import figures
    from interp.charts import Chart

    tokens = [f"<b>{i}</b>" for i in range(rows)]
    frame = pd.DataFrame({"x": range(rows), "token": tokens, "y": 0, "value": 0.25, "other": 7})
    drawn = Chart(
        kind="heatmap", table="t", x="x", x_text="token", y="y", value="value",
        probability=True, title="A <b>title</b>", alt="What <i>it</i> shows.",
    )  # fmt: skip
    more = {"on_select": lambda: None, "selection_mode": "points"} if on_select else {}
    figures.chart(drawn, frame, "k", code="table = 1", **more)
    st.session_state["drawn"], st.session_state["frame"] = drawn, frame


def open_chart(on_select=False, rows=3, opened=False):
    app = AppTest.from_function(_page, args=(on_select, rows))
    if opened:
        app.session_state["k/data"] = True
    app.run()
    assert not app.exception
    return app


def test_titles_and_alternatives_are_texts():
    shown = html(open_chart())
    assert "A &lt;b&gt;title&lt;/b&gt;" in shown and "What &lt;i&gt;it&lt;/i&gt; shows." in shown


def test_data_and_exports_are_made_when_they_are_opened():
    app = open_chart()
    assert not app.dataframe and not app.get("download_button")
    app = open_chart(opened=True)
    assert app.dataframe[0].value["token"].tolist() == ["<b>0</b>", "<b>1</b>", "<b>2</b>"]
    labels = [button.proto.label for button in app.get("download_button")]
    assert labels == ["PNG", "SVG", "HTML", "CSV", "Parquet", "Python"]
    assert app.code[0].value == "table = 1"


def test_cells_that_can_be_clicked_have_points():
    still, clickable = drawn_in(open_chart()), drawn_in(open_chart(on_select=True))
    assert [trace["type"] for trace in still["k"]["data"]] == ["heatmap"]
    assert [trace["type"] for trace in clickable["k"]["data"]] == ["heatmap", "scatter"]


def test_a_long_table_is_cut_on_the_page_and_whole_in_files(monkeypatch):
    monkeypatch.setattr(figures, "_MOST_ROWS", 4)
    app = open_chart(rows=9, opened=True)
    assert len(app.dataframe[0].value) == 4
    assert "The first 4 of 9 rows; files hold all." in said(app.caption)


class _Text(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def test_exports_hold_the_chart_and_its_table():
    from interp.charts import export

    app = open_chart(rows=9)
    drawn, frame = app.session_state["drawn"], app.session_state["frame"]
    assert figures._still(drawn, frame, "png").startswith(b"\x89PNG")
    svg = figures._still(drawn, frame, "svg").decode()
    assert "<desc>What &lt;i&gt;it&lt;/i&gt; shows.</desc>" in svg
    page = _Text()
    page.feed(figures._page(drawn, frame).decode())
    assert "What <i>it</i> shows." in page.text and "script" not in page.tags
    assert not {"b", "i"} & set(page.tags)
    pd.testing.assert_frame_equal(pd.read_csv(io.BytesIO(export.csv(frame))), frame)
    pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(export.parquet(frame))), frame)


@pytest.mark.parametrize("panels", [1, 4, 9])
def test_panels_of_vectors_are_squares_close_together(panels, monkeypatch):
    """Each panel's place on the page is about as high as it is wide, up to the largest."""
    shown = []
    monkeypatch.setattr(figures, "plot", lambda figure, *given, **more: shown.append(figure))
    monkeypatch.setattr(figures, "_data", lambda *given: None)
    frame = pd.DataFrame({"m": range(panels), "u": 1.0, "v": 0.5})
    chart = Chart(
        kind="points", table="t", title="T", alt="A", x="u", y="v", facet="m", vectors=True
    )
    figures.chart(chart, frame, "k", titled=False)
    layout = shown[0].layout
    room = layout.height - layout.margin.t - layout.margin.b
    across, up = layout.xaxis.domain, layout.yaxis.domain
    high, wide = room * (up[1] - up[0]), 900 * (across[1] - across[0])
    assert min(wide, 450) <= high <= 1.2 * min(wide, 450)


def _faceted(colored: bool, marked: dict) -> None:
    import pandas as pd

    from dashboards.drawing import figures
    from interp.charts import Chart

    cells = [(f, x, y) for f in "abcde" for x in (3, 7) for y in (10, 20, 30)]
    frame = pd.DataFrame(cells, columns=["f", "x", "y"]).assign(value=1.0, kind="one")
    named = {"table": "t", "title": "T", "alt": "A.", "facet": "f"}
    if colored:
        frame = pd.concat([frame.assign(kind=f"of the group {i}") for i in range(12)])
        frame = frame[frame["y"] == 10]
        drawn = Chart(kind="bars", x="x", value="value", color="kind", **named)
    else:
        drawn = Chart(kind="heatmap", x="x", y="y", value="value", **named)
    figures.chart(drawn, frame, "k", chosen=marked)


def open_faceted(colored=False, **marked):
    app = AppTest.from_function(_faceted, args=(colored, marked)).run()
    assert not app.exception
    return drawn_in(app)["k"]["layout"]


def test_the_legend_stands_above_the_titles_of_panels():
    layout = open_faceted(colored=True)
    legend, margin = layout["legend"], layout["margin"]["t"]
    assert (legend["yref"], legend["y"], legend["yanchor"]) == ("container", 1, "top")
    # Twelve entries of about 150 pixels take three lines of 900, and titles one more.
    assert margin >= 3 * 20 + 20
    titles = [each for each in layout["annotations"] if each["y"] == 1.0]
    assert len(titles) == 4 and layout["height"] - margin > 2 * 200


def test_what_is_chosen_is_outlined_in_its_panel():
    halo, shape = open_faceted(f="e", x=7, y=20)["shapes"]
    assert halo["line"]["width"] > shape["line"]["width"]
    assert [shape[end] for end in ("x0", "x1", "y0", "y1")] == [0.5, 1.5, 0.5, 1.5]
    assert (shape["xref"], shape["yref"]) == ("x5", "y5")
    shapes = open_faceted(y=30)["shapes"][::2]
    assert [shape["xref"] for shape in shapes] == ["x", "x2", "x3", "x4", "x5"]
    assert {(shape["x0"], shape["x1"], shape["y0"]) for shape in shapes} == {(-0.5, 1.5, 1.5)}
    assert "shapes" not in open_faceted(x=4)
    assert "shapes" not in open_faceted()
