import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from analyses import Check
from analyses.results.report import FEW_ROWS, MAX_CHECKS, MAX_COLUMNS, MAX_ROWS, MAX_TABLES, page

SVG = (
    '<?xml version="1.0"?>\n<svg id="a" role="img"><title>T</title><desc>Told</desc>'
    '<defs><path id="p"/></defs><use xlink:href="#p"/><g clip-path="url(#p)"/></svg>'
)
VOID = {"meta", "br", "img", "hr", "link", "input"}


class Outline(HTMLParser):
    """Checks that every element is closed in its turn, and collects ids."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_well_formed_and_needs_no_other_file(make_result):
    text = page(make_result(), {"one": SVG, "two": SVG})
    assert text.startswith("<!DOCTYPE html>\n<html lang=")
    outline = Outline(text)
    assert not outline.open
    assert len(outline.ids) == len(set(outline.ids)) == 6
    assert not re.search(r'(src|href)="(?!#)', text)


def test_figures_keep_their_alternative_and_their_own_ids(make_result):
    text = page(make_result(), {"one": SVG})
    assert "<desc>Told</desc>" in text
    assert '<path id="one--p"/>' in text
    assert 'xlink:href="#one--p"' in text and "url(#one--p)" in text
    assert "<?xml" not in text


def test_tokens_that_read_like_references_stay_as_they_are(make_result):
    """Ids are renamed in tags, not in what figures say."""
    written = 'id="a" href="#p" url(#p)'
    text = page(make_result(), {"one": SVG.replace("Told", written)})
    assert f"<desc>{written}</desc>" in text
    assert 'clip-path="url(#one--p)"' in text and 'xlink:href="#one--p"' in text


def test_everything_is_escaped(make_result):
    text = page(make_result(), {})
    assert "Which &lt;layer&gt; scores?" in text
    assert "<layer>" not in text and "<b>" not in text and "<s>" not in text


def test_checks_say_passed_or_failed_in_words(make_result):
    text = page(make_result(), {})
    assert '<td class="passed">passed</td><td class="text">sums</td>' in text
    assert '<td class="failed">failed</td><td class="text">broken</td>' in text


def test_long_tables_are_cut_and_say_so(make_result):
    table = pd.DataFrame({"n": range(1000, 1000 + MAX_ROWS + 3)})
    text = page(make_result(tables={"long": table}, figures={}), {})
    assert f"long ({MAX_ROWS + 3} rows, the last 3 left out here)" in text
    assert f">{1000 + MAX_ROWS - 1}<" in text
    assert f">{1000 + MAX_ROWS}<" not in text


def test_provenance_shows_parameters_and_visible_tokens(make_result):
    text = page(make_result(), {})
    assert "<th>parameter n</th>" in text
    assert '<span class="token">&lt;s&gt;</span><span class="token">·a</span>' in text


@pytest.mark.parametrize("needle", ["prefers-color-scheme:dark", 'name="viewport"'])
def test_page_suits_phones_and_the_dark(make_result, needle):
    assert needle in page(make_result(), {})


def test_many_checks_and_tables_are_folded(make_result):
    """Those that failed, and the first table, stay open."""
    many = [Check(f"check {i}", 0.0, 1.0) for i in range(MAX_CHECKS + 1)]
    failed = Check("broken", 2.0, 1.0)
    tables = {f"t{i}": pd.DataFrame({"a": [i]}) for i in range(MAX_TABLES + 1)}
    text = page(make_result(checks=[*many, failed], tables=tables, figures={}), {})
    assert not Outline(text).open
    assert f"<summary>{MAX_CHECKS + 1} checks passed</summary>" in text
    assert text.index("broken") < text.index("<details>") < text.index("check 0")
    assert text.count("<details>") == 1 + MAX_TABLES
    assert text.index("t0 (1 rows)") < text.index("<summary>t1 (1 rows)</summary>")
    few = make_result(checks=many[:-1], tables=dict(list(tables.items())[:-1]), figures={})
    assert "<details>" not in page(few, {})


def test_wide_tables_of_few_rows_are_turned(make_result):
    """Their first column heads the others, and no number is lost."""
    wide = pd.DataFrame({"model": ["one", "two"]})
    for i in range(MAX_COLUMNS):
        wide[f"c{i}"] = [100 + i, 200 + i]
    text = page(make_result(tables={"wide": wide}, figures={}), {})
    assert not Outline(text).open
    assert '<th>model</th><th class="number">one</th><th class="number">two</th>' in text
    for i in range(MAX_COLUMNS):
        cells = "".join(f'<td class="number">{n + i}</td>' for n in (100, 200))
        assert f"<tr><th>c{i}</th>{cells}</tr>" in text
    narrow = wide.drop(columns="c0")
    many = pd.concat([wide] * FEW_ROWS, ignore_index=True).assign(
        model=[f"m{i}" for i in range(2 * FEW_ROWS)]
    )
    for table in (narrow, many, wide.assign(model="same")):
        assert "turned)" not in page(make_result(tables={"t": table}, figures={}), {})
