"""Attention in a notebook: the pictures are the patterns, the page is small and inert."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from interp import InputError
from interp.charts.tokens import visible
from interp.display import attention, show_attention
from tests.interp.charts.test_export import HOSTILE, Reader

image = pytest.importorskip("PIL.Image", reason="needs Pillow, which the extra 'plots' brings")


def random_patterns(n_heads, n_queries, n_keys, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_heads, n_queries, n_keys, generator=generator).mul(3).softmax(-1)


def opacity(url):
    data = base64.b64decode(url.partition(",")[2])
    return np.array(image.open(io.BytesIO(data)).convert("RGBA"))[..., 3]


def pictures(page):
    return [opacity(attrs["src"]) for tag, attrs in page.tags if tag == "img"]


def test_pictures_are_the_patterns_in_255ths():
    patterns = random_patterns(3, 4, 6)
    shown = show_attention(list("abcd"), patterns[None], key_tokens=list("uvwxyz"), enlarged=2)
    page = Reader(shown._repr_html_())
    assert page.open == []
    expected = (patterns * 255).round().numpy()
    for found, head in zip(pictures(page), expected, strict=True):
        assert np.array_equal(found, head)
    (large,) = [attrs["href"] for tag, attrs in page.tags if tag == "image"]
    assert np.array_equal(opacity(large), expected[2])
    pressed = [attrs["aria-pressed"] for tag, attrs in page.tags if tag == "button"]
    assert pressed == ["false", "false", "true"]
    assert page.texts["strong"] == "H2"
    assert page.texts["text"] == "abcduvwxyz"
    root = page.tags[0][1]
    assert [json.loads(root[f"data-{side}"]) for side in ("queries", "keys")] == [
        list("abcd"),
        list("uvwxyz"),
    ]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=5))
@example(HOSTILE)
@example(["</script><img src=x onerror=alert(1)>", "\x00", "\u202e", "\ud800", "&quot;"])
def test_tokens_and_labels_are_data(texts):
    patterns = random_patterns(len(texts), len(texts), len(texts))
    page = Reader(show_attention(texts, patterns, labels=texts)._repr_html_())
    assert page.open == []
    seen = [visible(text) for text in texts]
    root = page.tags[0][1]
    assert json.loads(root["data-queries"]) == json.loads(root["data-keys"]) == seen
    assert [attrs["title"] for tag, attrs in page.tags if tag == "button"] == seen
    assert [tag for tag, _ in page.tags].count("script") == 1
    # The one script is a constant of the package.
    assert page.texts["script"] == attention._script()
    assert len(pictures(page)) == len(texts)


def test_twelve_heads_of_64_tokens_weigh_little():
    """At most 300 kB; random numbers compress worst."""
    html = show_attention(["token"] * 64, random_patterns(12, 64, 64))._repr_html_()
    assert len(html.encode()) < 120_000


def test_long_texts_have_no_labels_beside_their_cells():
    page = Reader(show_attention(["t"] * 80, random_patterns(1, 80, 80))._repr_html_())
    assert "text" not in [tag for tag, _ in page.tags]
    page = Reader(show_attention(["t"] * 60, random_patterns(1, 60, 60))._repr_html_())
    assert [tag for tag, _ in page.tags].count("text") == 120


def test_as_text():
    patterns = torch.tensor([[[1.0, 0.0], [0.25, 0.75]]], dtype=torch.float16)
    assert repr(show_attention(["a", "b"], patterns)) == (
        "Attention patterns: 1 head, 2 queries × 2 keys. From the last query:\n"
        "  H0: 0.75 to 'b' (1)"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": ["a"]}, r"\[head, 1, 1\] for these tokens"),
        ({"patterns": torch.zeros(2, 2, 3, 3)}, "of one prompt"),
        ({"patterns": torch.full((2, 3, 3), 1.5)}, "from 0 to 1. Received 1.5"),
        ({"patterns": torch.full((2, 3, 3), -torch.inf)}, "from 0 to 1"),
        ({"patterns": torch.full((2, 3, 3), torch.nan)}, "from 0 to 1"),
        ({"patterns": torch.zeros(0, 3, 3)}, "from 1 to"),
        ({"labels": ["a"]}, "one label for each of the 2 heads"),
        ({"enlarged": 2}, "one of 2 heads. Received 2"),
        ({"enlarged": -1}, "enlarged must be a whole number"),
        ({"key_tokens": ["a"]}, r"\[head, 3, 1\]"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    given = {"tokens": list("abc"), "patterns": random_patterns(2, 3, 3), **change}
    with pytest.raises(InputError, match=message):
        show_attention(given.pop("tokens"), given.pop("patterns"), **given)


def test_too_many_weights_are_refused(monkeypatch):
    monkeypatch.setattr(attention, "MOST_CELLS", 17)
    with pytest.raises(InputError, match=r"choose heads or positions\. Received 18"):
        show_attention(list("abc"), random_patterns(2, 3, 3))
