from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from interp import InputError
from interp.generation.stopping import Stops, TextPieces, text_after
from tests.interp.generation.fakes import FakeTokenizer

rows_of_tokens = st.lists(st.integers(3, 12), min_size=1, max_size=12)


def _parse(stop: Any = None, **options: Any) -> Stops:
    options = {"stop_at_eos": False, "eos_token_id": None, "d_vocab": 31, **options}
    return Stops.parse(stop, **options)


@given(rows_of_tokens, st.integers(1, 12))
@settings(deadline=None)
def test_a_row_ends_where_a_search_finds_a_stop(row: list[int], n_new: int) -> None:
    n_new = min(n_new, len(row))
    stops = _parse([5, [3, 4], [6, 6, 6]])
    new = row[-n_new:]
    wanted = new[-1] == 5 or new[-2:] == [3, 4] or new[-3:] == [6, 6, 6]
    assert stops.ended(torch.tensor([row]), n_new).tolist() == [wanted]


def test_rows_of_any_shape() -> None:
    rows = torch.tensor([[[1, 2], [3, 5]], [[5, 5], [5, 1]]])
    assert _parse(5).ended(rows, 1).tolist() == [[False, True], [True, False]]
    skip = torch.tensor([[False, True], [False, False]])
    assert _parse(5).ended(rows, 1, skip).tolist() == [[False, False], [True, False]]


def test_a_sequence_must_be_generated_as_a_whole() -> None:
    rows = torch.tensor([[1, 3, 4]])
    assert not _parse([[3, 4]]).ended(rows, 1)
    assert _parse([[3, 4]]).ended(rows, 2)


def test_texts_are_looked_for_in_what_was_generated() -> None:
    stops = _parse("7 8", tokenizer=FakeTokenizer(0, 2, 1, "left"))
    assert not stops.ended(torch.tensor([[7, 8, 9]]), 1)
    assert stops.ended(torch.tensor([[9, 7, 8]]), 2)
    assert stops.ended(torch.tensor([[9, 17, 8]]), 2)  # texts do not know of tokens
    assert text_after(stops.tokenizer, [5, 6, 7], 1) == " 7"


def test_what_an_argument_means() -> None:
    eos = FakeTokenizer(0, 2, 1, "left")
    assert _parse(stop_at_eos=True, tokenizer=eos).tokens == (2,)
    assert _parse(stop_at_eos=True, eos_token_id=[4, 5], tokenizer=eos).tokens == (4, 5)
    both = _parse([3, [4], [5, 6], "x"], stop_at_eos=True, tokenizer=eos)
    assert (both.tokens, both.sequences, both.texts) == ((2, 3, 4), ((5, 6),), ("x",))
    assert both.n_ending_tokens == 4
    assert both.fill == 2
    assert not _parse()
    assert _parse(torch.tensor([3, 4])).tokens == (3, 4)


@pytest.mark.parametrize(
    ("fill", "eos", "pad", "given"), [(2, 2, 0, None), (7, 2, 0, 7), (9, None, 9, None)]
)
def test_fill(fill: int, eos: int | None, pad: int, given: int | None) -> None:
    tokenizer = FakeTokenizer(pad, 2, 1, "left")
    tokenizer.eos_token_id = eos  # type: ignore[assignment]
    assert _parse(3, eos_token_id=given, tokenizer=tokenizer).fill == fill
    assert _parse(3).fill == 0


@pytest.mark.parametrize(
    ("stop", "message"),
    [(31, "stop"), (-1, "stop"), ([[]], "empty"), ("", "empty"), ("a", "tokenizer"), (1.5, "stop")],
)
def test_bad_stops(stop: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _parse(stop)


# --- pieces of text ------------------------------------------------------------------------------


class Bytes:
    """A tokenizer whose tokens are bytes; 0 is special."""

    def decode(self, ids: list[int], skip_special_tokens: bool, **kwargs: Any) -> str:
        kept = [i for i in ids if i or not skip_special_tokens]
        return bytes(kept).decode("utf-8", errors="replace")


class Words:
    """A tokenizer like Llama's: the first space of a text is not written. 0 is special."""

    def decode(self, ids: list[int], skip_special_tokens: bool, **kwargs: Any) -> str:
        kept = [i for i in ids if i or not skip_special_tokens]
        return "".join(f" {i}" if i % 2 else str(i) for i in kept).removeprefix(" ")


@given(st.text(max_size=12), st.integers(0, 10))
@example("a𐀀\0b", 3)  # the last tokens of the prompt begin inside a character
@settings(deadline=None)
def test_pieces_never_split_a_character(text: str, cut: int) -> None:
    ids = list(text.encode())
    n_prompt = len(text[:cut].encode())
    pieces = TextPieces(Bytes(), ids[:n_prompt])
    found = [pieces.add(i, last=n == len(ids) - 1) for n, i in enumerate(ids) if n >= n_prompt]
    assert "".join(found) == text[cut:].replace("\0", "")


@given(st.lists(st.integers(0, 20), max_size=12), st.integers(0, 12))
@settings(deadline=None)
def test_pieces_are_the_text(ids: list[int], cut: int) -> None:
    cut = min(cut, len(ids))
    pieces = TextPieces(Words(), ids[:cut])
    found = "".join(pieces.add(i) for i in ids[cut:])
    whole = Words().decode(ids, skip_special_tokens=True)
    assert Words().decode(ids[:cut], skip_special_tokens=True) + found == whole


def test_an_incomplete_character_comes_last() -> None:
    pieces = TextPieces(Bytes(), [])
    first, *rest = "é".encode()
    assert pieces.add(first) == ""
    assert pieces.add(rest[0]) == "é"
    assert pieces.add(first, last=True) == "\N{REPLACEMENT CHARACTER}"
