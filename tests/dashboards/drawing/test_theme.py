"""Light and dark pages: what Streamlit is told, and what it tells."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("streamlit", reason="needs the extra 'dashboard'")

from streamlit.testing.v1 import AppTest

import dashboards
from dashboards.drawing import theme
from interp.charts.palette import DARK, LIGHT
from tests.interp.charts.test_palette import contrast

HERE = Path(dashboards.__file__).parent
CONFIG = tomllib.loads((HERE / ".streamlit" / "config.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("name", "colors"), [("light", LIGHT), ("dark", DARK)])
def test_pages_have_the_colors_of_the_charts_on_them(name, colors):
    told = CONFIG["theme"][name]
    assert (told["backgroundColor"], told["textColor"]) == (colors.paper, colors.ink)
    assert contrast(told["textColor"], told["secondaryBackgroundColor"]) >= 7
    assert contrast(told["primaryColor"], told["backgroundColor"]) >= 4.5


def test_the_reader_chooses_the_theme():
    assert "base" not in CONFIG["theme"]  # or the reader's system would not be asked
    assert CONFIG["client"]["toolbarMode"] == "viewer"  # the menu is there


def test_styles_name_a_color_for_each_theme():
    style = (HERE / "style.css").read_text(encoding="utf-8")
    pairs = re.findall(r"light-dark\((#[0-9a-f]{6}|#[0-9a-f]{3}), (#[0-9a-f]{6})\)", style)
    assert len(re.findall(r"#[0-9a-f]{3,6}\b", style)) == 2 * len(pairs)
    assert contrast(pairs[0][0], LIGHT.paper) >= 4.5 and contrast(pairs[0][1], DARK.paper) >= 4.5


@pytest.mark.parametrize(("told", "dark"), [("dark", True), ("light", False), (None, False)])
def test_dark_is_what_the_browser_says(monkeypatch, told, dark):
    class Context:
        class theme:
            type = told

    monkeypatch.setattr(theme.st, "context", Context)
    assert theme.is_dark() is dark


def test_a_page_watches_for_another_theme():
    def page():
        from dashboards.drawing import theme

        theme.follow()

    app = AppTest.from_function(page).run()
    assert not app.exception
    (element,) = app.main.children.values()
    assert "MutationObserver" in element.proto.js_content
