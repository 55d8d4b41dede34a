"""A chart's page, read back as a browser reads it."""

import base64
import io
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("seaborn", reason="needs the extra 'plots'")
pytest.importorskip("plotly", reason="needs the extra 'dashboard'")

from interp.charts import Chart, interactive
from interp.charts.export import csv, html, parquet, svg, write_html
from interp.charts.mpl import draw
from interp.charts.tokens import visible

HOSTILE = ["</table><script>alert(1)</script>", "../../x", "\u202eevil", "😀", "a" * 300, "", "$x$"]
LOADS = {"src", "srcset", "data", "action", "poster", "background", "formaction"}

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Reader(HTMLParser):
    """What a page holds: its elements, the cells of its table, and whether all is closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.cells, self.texts = [], [], [], {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        elif tag == "td":
            self.cells[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        inside = self.open[-1] if self.open else ""
        if inside == "td":
            self.cells[-1][-1] += data
        self.texts[inside] = self.texts.get(inside, "") + data


def hostile_case():
    table = pd.DataFrame(
        {"i": range(len(HOSTILE)), "token": HOSTILE, "v": np.linspace(-1, 1, len(HOSTILE)) / 3}
    )
    title, alt = "T</title><script>x</script>", 'alt "&" </figcaption><img src=x onerror=y>'
    chart = Chart(
        kind="bars", table="t/../<b>", title=title, alt=alt, x="i", x_text="token", value="v"
    )
    return chart, table


def test_a_page_holds_the_drawing_and_all_numbers():
    chart, table = hostile_case()
    page = Reader(html(chart, table))
    assert page.open == []
    named = [tag for tag, _ in page.tags]
    assert named.count("svg") == named.count("table") == named.count("h1") == 1
    assert page.texts["h1"] == chart.title
    assert page.texts["figcaption"] == chart.alt
    rows = [cells for cells in page.cells if cells]
    assert [cells[1] for cells in rows] == [visible(text) for text in HOSTILE]
    assert [float(cells[2]) for cells in rows] == pytest.approx(table["v"].tolist(), rel=1e-5)
    (link,) = [attrs for tag, attrs in page.tags if tag == "a"]
    assert link["download"] == "t-b-.csv"
    kind, _, data = link["href"].partition(",")
    assert kind == "data:text/csv;base64"
    read = pd.read_csv(io.BytesIO(base64.b64decode(data)), keep_default_na=False)
    pd.testing.assert_frame_equal(read, table)


def test_a_page_runs_nothing_and_loads_nothing():
    page = Reader(html(*hostile_case()))
    assert not {"script", "iframe", "link", "object", "embed", "base"} & {t for t, _ in page.tags}
    for tag, attrs in page.tags:
        assert not [name for name in attrs if name.startswith("on")]
        assert not LOADS & set(attrs)
        if "href" in attrs or "xlink:href" in attrs:
            at = attrs.get("href") or attrs["xlink:href"]
            assert at.startswith(("#", "data:")), (tag, at)
    assert "url(http" not in page.texts["style"] and "@import" not in page.texts["style"]
    (policy,) = [a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a]
    assert policy.startswith("default-src 'none'")


def test_a_page_is_cut_where_there_are_many_rows_but_its_csv_is_not(tmp_path):
    table = pd.DataFrame({"x": range(1500), "v": np.arange(1500) / 7, "run": "a"})
    chart = Chart(kind="line", table="t", title="T", alt="A", x="x", y="v", where={"run": "a"})
    write_html(tmp_path / "a.html", chart, pd.concat([table, table.assign(run="b")]))
    page = Reader((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert page.texts["caption"] == "1,500 rows, of which the first 1,000"
    assert len([cells for cells in page.cells if cells]) == 1000
    (link,) = [attrs for tag, attrs in page.tags if tag == "a"]
    read = pd.read_csv(io.BytesIO(base64.b64decode(link["href"].partition(",")[2])))
    np.testing.assert_array_equal(read["v"], table["v"])  # to the last bit, and no row of run b


def test_tables_read_back_as_they_were():
    _, table = hostile_case()
    table = table.assign(on=True, v=table["v"].where(table["i"] > 0))
    read = pd.read_csv(io.BytesIO(csv(table)), keep_default_na=False, na_values={"v": [""]})
    pd.testing.assert_frame_equal(read, table)
    pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(parquet(table))), table)


UNPRINTABLE = ["\x00a", "b\x0b", "]]>\ufffe", "_c", "\u202ed"]


@pytest.mark.parametrize("role", ["x", "color", "facet", "text"])
def test_an_svg_is_xml_whatever_is_written_in_it(role):
    table = pd.DataFrame({"name": UNPRINTABLE, "i": range(5), "row": 0, "v": np.linspace(-1, 1, 5)})
    columns = {"x": "i", "value": "v", role: "name"}
    columns |= {"kind": "heatmap", "y": "row"} if role in ("facet", "text") else {"kind": "bars"}
    chart = Chart(table="t", title="T\x00 ]]>", alt="A\x0b ]]>", x_label="x\x01", **columns)
    root = ElementTree.fromstring(svg(draw(chart, table), chart))
    told = {part.tag.rpartition("}")[2]: part.text for part in root}
    assert (told["title"], told["desc"]) == ("T\\x00 ]]>", "A\\x0b ]]>")
    written = {part.text for part in root.iter() if part.tag.endswith("}text")}
    assert {"\\x00a", "b\\x0b", "]]>\\ufffe", "_c", "\\u202ed"} <= written


def test_tokens_of_100_000_letters_take_little_room():
    huge = ["a" * 100_000 + end for end in "xyz"]
    table = pd.DataFrame({"name": huge, "up": ["b", "c", "d"], "i": range(3), "v": [1.0, 2.0, 3.0]})
    table = table.assign(low=0, high=1)
    for columns in (
        {"kind": "bars", "x": "i", "value": "v", "color": "name"},
        {"kind": "line", "x": "i", "y": "v", "facet": "name"},
        {"kind": "points", "x": "i", "y": "v", "color": "name"},
        {"kind": "graph", "x": "name", "y": "up", "value": "v", "x_level": "low",
         "y_level": "high", "color": "name"},
    ):  # fmt: skip
        chart = Chart(table="t", title=f"T {huge[0]}", alt="A", **columns)
        figure = draw(chart, table)
        assert max(figure.get_size_inches()) < 60, columns
        assert len(interactive.draw(chart, table).to_json()) < 100_000, columns
        names = [text.get_text() for legend in figure.legends for text in legend.get_texts()][:3]
        assert len(set(names)) == len(names), columns
    assert len(html(chart, table)) < 1_300_000  # of which 800,000 are the CSV
