"""docs/anatomy.md says what its blocks print and what its pictures show."""

from __future__ import annotations

import re
from html import unescape

import pytest

from docs.generate.anatomy.__main__ import CHARTS, DRAWINGS, OUT, PAGE, alternatives
from docs.generate.anatomy.page import pictures, with_alternatives, with_outputs


@pytest.fixture(scope="module")
def told() -> dict[str, str]:
    pytest.importorskip("transformers", reason="the zoo's prompts need the extra 'hf'")
    pytest.importorskip("seaborn", reason="pictures need the extra 'plots'")
    return alternatives()


def test_below_each_block_stands_what_it_prints():
    pytest.importorskip("transformers", reason="the zoo's prompts need the extra 'hf'")
    page = PAGE.read_text("utf-8")
    assert page.count("```text\n") > 20
    assert with_outputs(page) == page, "make it anew: python -m docs.generate.anatomy"


def test_each_picture_is_drawn_by_the_generator_and_shown_once():
    shown = pictures(PAGE.read_text("utf-8"))
    assert sorted(shown) == sorted([*CHARTS, *DRAWINGS]) == sorted(f.stem for f in OUT.glob("*"))


def test_the_alternatives_are_those_of_what_the_model_does(told):
    page = PAGE.read_text("utf-8")
    assert with_alternatives(page, told) == page, "make it anew: python -m docs.generate.anatomy"
    for name, text in told.items():
        svg = (OUT / f"{name}.svg").read_text("utf-8")
        found = re.search(r"<desc>(.*?)</desc>", svg, re.DOTALL)
        assert found is not None
        assert unescape(found[1]) == text, name


def test_what_is_printed_replaces_what_stood_there():
    page = "```python\nx = 2\n```\n\n```python\nprint(x + 1, 'a ')\n```\n\n```text\n4\n```\n\nAnd\n"
    once = with_outputs(page)
    assert once == page.replace("4\n", "3 a\n")
    assert with_outputs(once) == once
    silent = "```python\n1\n```\n\n```text\ngone\n```\n"
    assert with_outputs(silent) == "```python\n1\n```\n"


def test_a_picture_that_nothing_draws_is_an_error():
    with pytest.raises(KeyError, match="nonsense"):
        with_alternatives("![](images/anatomy/nonsense.svg)", {"heads": "Heads."})
