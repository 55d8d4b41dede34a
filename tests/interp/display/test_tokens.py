"""Tokens as chips: any text, as data."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from interp import InputError, load_model
from interp.charts.tokens import visible
from interp.display import show_tokens, tokens
from interp.display.tokens import ShownTokens, chip
from tests.interp.charts.test_export import HOSTILE, Reader


@pytest.fixture(scope="module")
def model():
    pytest.importorskip("transformers", reason="needs the extra 'hf'")
    return load_model("zoo:induction", device="cpu")


class Chips(Reader):
    """Chips by what they show, without the ids below."""

    def __init__(self, text):
        self.shown = []
        super().__init__(text)

    def handle_data(self, data):
        super().handle_data(data)
        if self.open and self.open[-1] == "span":
            self.shown.append(data)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.text(), min_size=1, max_size=4))
@example(HOSTILE)
@example(["\x00", "\u202e", "שלום", "\ud800", "]]>", "&lt;", "'\"", "\u2028"])
def test_any_text_is_shown_and_none_is_markup(texts):
    page = Chips(ShownTokens([list(range(len(texts)))], [texts])._repr_html_())
    assert page.open == []
    assert page.shown == [visible(text) for text in texts]
    assert {tag for tag, _ in page.tags} == {"div", "span", "sub"}
    titles = [attrs["title"] for tag, attrs in page.tags if tag == "span"]
    assert titles == [f"{text!r}, token {i}" for i, text in enumerate(texts)]
    # The line runs from left to right whatever it says, and each chip by itself.
    lines = [attrs for tag, attrs in page.tags if tag == "div" and "dir" in attrs]
    assert [attrs["dir"] for attrs in lines] == ["ltr"]
    assert "display:inline-block" in chip("a", "a")


def test_ids_are_the_models(model):
    shown = show_tokens(model, "k d R")
    assert shown.ids == model.to_tokens("k d R").tolist()
    assert shown.texts == [model.to_str_tokens("k d R")]
    assert repr(shown) == "'<bos>':0 'k':11 'd':4 'R':44"
    page = Chips(shown._repr_html_())
    assert page.shown == ["<bos>", "k", "d", "R"] and page.texts["sub"] == "011444"
    assert show_tokens(model, torch.tensor([11, 4])).ids == [[11, 4]]
    assert show_tokens(model, "k", prepend_bos=False).ids == [[11]]
    several = show_tokens(model, ["k d R", "k"])
    assert several.ids == model.to_tokens(["k d R", "k"]).tolist()
    assert repr(several).count("\n") == 1
    long = "k d " * model.cfg.n_ctx  # a run does not cut it
    assert show_tokens(model, long).ids == model.tokenize(long)[0].tolist()
    assert len(show_tokens(model, long).ids[0]) == 2 * model.cfg.n_ctx + 1


def test_a_model_without_tokenizer_shows_numbers(make_model):
    shown = show_tokens(make_model(), torch.tensor([[1, 2], [3, 4]]))
    assert repr(shown) == "1 2\n3 4"
    assert Chips(shown._repr_html_()).shown == ["1", "2", "3", "4"]


def test_many_tokens_are_counted(monkeypatch):
    monkeypatch.setattr(tokens, "MOST_TOKENS", 3)
    page = Chips(ShownTokens([[0] * 5], [["a"] * 5])._repr_html_())
    assert page.shown == ["a"] * 3 and page.texts["div"].strip() == "and 2 more"
    assert len(repr(ShownTokens([[0] * 5], [["a"] * 5])).split()) == 5


def test_what_is_no_input_is_refused(model):
    with pytest.raises(InputError, match=r"Received torch\.float32"):
        show_tokens(model, torch.zeros(3))
    with pytest.raises(InputError, match=r"\(1, 1, 1\)"):
        show_tokens(model, torch.zeros(1, 1, 1, dtype=torch.long))
    with pytest.raises(InputError, match=r"torch\.bool"):
        show_tokens(model, torch.tensor([True]))
    for outside in (-1, model.cfg.d_vocab):
        with pytest.raises(InputError, match=rf"from 0 to 63\. Received \[{outside}\]"):
            show_tokens(model, torch.tensor([[1, outside]]))
    with pytest.raises(InputError, match="prepend_bos is for texts"):
        show_tokens(model, torch.tensor([1]), prepend_bos=True)
