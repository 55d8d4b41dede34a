"""A chart's page, read back as a browser reads it."""

import base64
import io
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("seaborn", reason="needs the extra 'plots'")

from interp.charts import Chart
from interp.charts.export import csv, html, parquet, write_html
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
