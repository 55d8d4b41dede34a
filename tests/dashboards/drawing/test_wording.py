"""Foreign text among Markdown. What a browser makes of it is seen in `test_browser.py`."""

from __future__ import annotations

import re

import pytest

from dashboards.drawing.wording import plain


@pytest.mark.parametrize("text", ["*a*", "_b_", "`c`", "[d](e)", "$f$", ":red[g]", "<h>", "&lt;"])
def test_signs_of_markdown_are_escaped(text):
    shown = plain(text)
    assert re.sub(r"\\(.)", r"\1", shown) == text != shown
    assert not re.search(r"(?<!\\)[*_`\[\]$:<>&]", shown)


@pytest.mark.parametrize("text", ["www.evil.example", "https://evil.example", "a@evil.example"])
def test_nothing_becomes_a_link(text):
    shown = plain(text).replace("\\", "")
    assert not re.search(r"www\.|://|[a-z]@", shown)
    assert shown.replace("\u2060", "") == text
