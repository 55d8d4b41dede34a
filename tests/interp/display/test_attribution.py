"""Attributions: each token's colour and number."""

from __future__ import annotations

import math
import re

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from interp import InputError
from interp.charts.palette import LIGHT, channels
from interp.charts.tokens import visible
from interp.display import show_attribution
from tests.interp.charts.test_export import HOSTILE
from tests.interp.display.test_tokens import Chips

_COLOR = re.compile(r"background:rgba\((\d+),(\d+),(\d+),([\d.]+)\)")
VALUES = st.floats(allow_nan=True, allow_infinity=False, width=32)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.text(), VALUES), max_size=6))
@example([(text, -1.0) for text in HOSTILE])
def test_colours_are_the_values(pairs):
    tokens, values = [text for text, _ in pairs], [value for _, value in pairs]
    page = Chips(show_attribution(tokens, values)._repr_html_())
    assert page.open == [] and page.shown == [visible(text) for text in tokens]
    assert {tag for tag, _ in page.tags} <= {"div", "span"}
    spans = [attrs for tag, attrs in page.tags if tag == "span"]
    largest = max((abs(v) for v in values if not math.isnan(v)), default=0.0)
    for attrs, text, value in zip(spans, tokens, values, strict=True):
        found = _COLOR.search(attrs["style"])
        if math.isnan(value):
            style = dict(part.split(":", 1) for part in attrs["style"].split(";"))
            assert style["border-style"] == "dashed" and style["white-space"] == "pre"
            assert found is None and attrs["title"] == f"{text!r}: no value"
            continue
        assert attrs["title"] == f"{text!r}: {value:+.6g}"
        color = tuple(map(int, found.groups()[:3]))
        assert color == channels(LIGHT.positive if value > 0 else LIGHT.negative)
        assert float(found[4]) == pytest.approx(0.6 * abs(value) / (largest or 1.0), abs=1e-3)


def luminance(color):
    linear = [(c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4) for c in color]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(
    "ink_and_page", [((34, 34, 34), (255, 255, 255)), ((224, 224, 224), (17, 17, 17))]
)
def test_full_colour_leaves_the_ink_legible(ink_and_page):
    """4.5:1 or more (WCAG 2.2, AA), on a light and on a dark page."""
    ink, page = ink_and_page
    for color in (LIGHT.positive, LIGHT.negative):
        behind = [0.6 * c + 0.4 * p for c, p in zip(channels(color), page, strict=True)]
        low, high = sorted([luminance(ink), luminance(behind)])
        assert (high + 0.05) / (low + 0.05) >= 4.5


def test_a_limit_compares_several():
    one = show_attribution(["a"], torch.tensor([0.5]), limit=1.0)._repr_html_()
    assert ",0.300)" in one and "±1." in one
    beyond = show_attribution(["a"], [2.0], limit=1.0)._repr_html_()
    assert ",0.600)" in beyond and "+2" in beyond


def test_as_text():
    shown = show_attribution(["a", " the"], torch.tensor([0.5, math.nan]))
    assert repr(shown) == "'a'    +0.5\n' the' –\nsum    +0.5"
    assert "sum" in repr(show_attribution([], []))


@pytest.mark.parametrize(
    ("tokens", "values", "limit", "message"),
    [
        (["a"], [1.0, 2.0], None, "one value for each of the 1 tokens"),
        ("ab", [1.0, 2.0], None, "a list of texts"),
        ([1], [1.0], None, "a list of texts"),
        (["a"], [math.inf], None, "must be finite"),
        (["a"], [1.0], 0.0, "limit must be a number and positive"),
        (["a"], [[1.0]], None, "one value for each"),
    ],
)
def test_what_does_not_fit_is_refused(tokens, values, limit, message):
    with pytest.raises(InputError, match=message):
        show_attribution(tokens, values, limit)
