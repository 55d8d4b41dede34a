"""Results whose every text attacks the page, chart or file it is shown in."""

from html.parser import HTMLParser
from xml.etree import ElementTree

import pandas as pd
import pytest

pytest.importorskip("seaborn", reason="needs the extra 'plots'")

from analyses import AnalysisResult, Check
from analyses.results.provenance import collect
from interp.charts import Chart
from interp.charts.tokens import legible

EVIL = (
    "<script>alert(1)</script>",
    "</td></table><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "javascript:alert(1)",
    "[click](javascript:alert(1)) ![x](http://evil/x.png)",
    "<a href='javascript:alert(1)'>x</a>",
    "]]><script>alert(1)</script><![CDATA[",
    "&lt;script&gt; &#60;script&#62;",
    "$\\href{javascript:alert(1)}{x}$ %{x}",
    "\u202egnp.exe\u202c \u2066\u2067\u200f",
    "</style><style>body{display:none}",
    "${title} $body",
)
TURNS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """It goes to disk and comes back, as a run from elsewhere does."""
    text = " ".join(EVIL)
    table = pd.DataFrame({"token": EVIL, "score": range(len(EVIL))}).rename(
        columns={"score": "<script>score"}
    )
    chart = Chart(
        kind="bars", table="t", title=EVIL[0] + EVIL[2], alt=text, x="token", value="<script>score"
    )
    result = AnalysisResult(
        name="demo",
        question=text,
        caveat=text,
        tables={"t": table},
        figures={"f": chart},
        checks=[Check(text, 0.0, 1.0, text)],
        provenance=collect(
            tokens=[[1] * len(EVIL)], str_tokens=[list(EVIL)], parameters={text: text}, seed=1
        ),
    )
    folder = tmp_path_factory.mktemp("hostile") / "run"
    AnalysisResult.load(result.save(folder / "first")).save(folder / "second")
    return folder / "second"


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text.append(data)


def test_nothing_in_a_report_acts(saved):
    reader = Reader()
    reader.feed((saved / "report.html").read_text(encoding="utf-8"))
    shown = "".join(reader.text)
    assert not {"script", "img", "iframe", "object", "embed", "a", "link", "base"} & set(
        reader.tags
    )
    assert reader.tags.count("style") == 1 + reader.tags.count("svg")  # matplotlib's own
    for name, value in reader.attributes:
        assert not name.startswith("on")
        assert name not in ("href", "xlink:href", "src", "action") or value.startswith("#")
    for text in EVIL[:9]:  # all of it is there to be read
        assert text in shown
    assert not set(TURNS) & set(shown)
    assert "\\u202egnp.exe" in shown


def test_pictures_are_well_formed_and_hold_no_code(saved):
    drawing = (saved / "figures" / "f.svg").read_text(encoding="utf-8")
    names = {element.tag.rsplit("}")[-1] for element in ElementTree.fromstring(drawing).iter()}
    assert "script" not in names and "a" not in names and "image" not in names
    assert "onload" not in {k for e in ElementTree.fromstring(drawing).iter() for k in e.attrib}


def test_a_text_is_legible_where_it_cannot_turn_the_page():
    assert legible(TURNS) == "".join(f"\\u{ord(char):04x}" for char in TURNS)
    assert legible("a\n\tb \x00\x1b[31m\x7f\x85") == "a\n\tb \\x00\\x1b[31m\\x7f\\x85"
    for text in ("שלום", "می‌خواهم", "\U0001f469‍\U0001f467", "é漢 \u00a0"):
        assert legible(text) == text
