"""Targets against plain loops over rows, and what their designs promise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp import HookedTransformer, InputError
from interp.probes.targets import (
    Targets,
    absolute_position,
    default_markers,
    fixed_places,
    relative_offset,
    token_order,
)

A, B = 30, 29
SMALL = settings(max_examples=25, deadline=None)


def rows_of(n: int, length: int, bos: bool, seed: int = 0, n_vocab: int = 31) -> Tensor:
    tokens = torch.randint(1, n_vocab, (n, length), generator=torch.Generator().manual_seed(seed))
    tokens[0, -1], tokens[1, -1] = 1, 2  # so that the ends differ
    tokens[0, int(bos)], tokens[1, int(bos)] = 1, 2
    if bos:
        tokens[:, 0] = 0
    return tokens


def samples(of: Targets) -> list[tuple[int, int, int]]:
    """(row, index, target) of each sample, from the tokens and marks alone."""
    found = []
    for row in range(len(of.tokens)):
        for index in range(of.tokens.shape[1]):
            if of.sampled[row, index]:
                found.append((row, index, int(of.values[len(found)])))
    assert len(found) == of.n_samples
    return found


@pytest.mark.parametrize("side", ["left", "right", "none"])
def test_positions_count_real_tokens(side: str) -> None:
    tokens = rows_of(4, 7, bos=False)
    mask = None
    n_pad = [0, 2, 1, 3]
    if side != "none":
        mask = torch.ones_like(tokens)
        for row, n in enumerate(n_pad):
            mask[row, slice(0, n) if side == "left" else slice(7 - n, 7)] = 0
    of = absolute_position(tokens, mask)
    expected = []
    for row in range(4):
        count = 0
        for index in range(7):
            if mask is None or mask[row, index]:
                if len({int(t) for t in tokens[:, index]}) > 1:
                    expected.append((row, index, count))
                count += 1
    assert samples(of) == expected
    assert of.groups.tolist() == of.rows.tolist() == [row for row, _, _ in expected]
    assert torch.equal(of.sample_tokens, torch.stack([tokens[r, i] for r, i, _ in expected]))


def test_what_all_rows_share_is_counted_but_not_sampled() -> None:
    tokens = rows_of(5, 6, bos=True)
    assert fixed_places(tokens).tolist() == [True] + 5 * [False]
    assert set(absolute_position(tokens).values.tolist()) == {1, 2, 3, 4, 5}
    assert set(absolute_position(tokens, include_fixed=True).values.tolist()) == set(range(6))
    assert absolute_position(tokens).classes[absolute_position(tokens).class_ids].tolist() == (
        absolute_position(tokens).values.tolist()
    )


@given(
    n=st.integers(2, 6), length=st.integers(9, 20), bos=st.booleans(), causal=st.booleans(),
    repeats=st.integers(1, 5), seed=st.integers(0, 99),
)  # fmt: skip
@SMALL
def test_offsets_are_counted_from_the_mark(
    n: int, length: int, bos: bool, causal: bool, repeats: int, seed: int
) -> None:
    tokens = rows_of(n, length, bos, seed)
    of = relative_offset(tokens, A, repeats, seed, causal)
    assert len(of.tokens) == n * repeats
    assert of.marks is not None
    for row, found in enumerate(of.tokens):
        base = tokens[row // repeats]
        [mark] = (found == A).nonzero().flatten().tolist()
        assert mark == of.marks[row] and (not bos or mark > 0)
        changed = (found != base).nonzero().flatten().tolist()
        assert set(changed) <= {mark, *(base == A).nonzero().flatten().tolist()}
    for i, (row, index, offset) in enumerate(samples(of)):
        assert offset == index - int(of.marks[row]) != 0
        assert offset > 0 or not causal
        assert of.groups[i] == row // repeats and of.places[i] == index
    assert of.n_replaced == sum(int((t == A).sum()) for t in tokens) * repeats


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("bos", [True, False])
def test_every_offset_is_as_frequent_at_every_place(causal: bool, bos: bool) -> None:
    """So that the best guess from the place alone is the same at every place."""
    length = 14
    n_free = length - bos
    n_marks = n_free - 1 if causal else n_free
    of = relative_offset(rows_of(n_marks, length, bos), A, 3, 5, causal)
    counts = Counter(zip(of.places.tolist(), of.values.tolist(), strict=True))
    places, offsets = set(of.places.tolist()), set(of.values.tolist())
    reach = n_free // 2 if causal else (n_free - 1) // 3
    assert offsets == ({*range(1, reach + 1)} if causal else {*range(-reach, reach + 1)} - {0})
    assert len(places) == n_free - reach * (1 if causal else 2)
    assert {counts[place, offset] for place in places for offset in offsets} == {3}


@given(
    n=st.integers(2, 6), length=st.integers(5, 16), bos=st.booleans(),
    half=st.integers(1, 3), seed=st.integers(0, 99),
)  # fmt: skip
@SMALL
def test_orders_come_in_pairs_that_differ_in_nothing_else(
    n: int, length: int, bos: bool, half: int, seed: int
) -> None:
    tokens = rows_of(n, length, bos, seed)
    of = token_order(tokens, (A, B), 2 * half, seed)
    answers = {}
    for row, index, answer in samples(of):
        [a], [b] = ((of.tokens[row] == x).nonzero().flatten().tolist() for x in (A, B))
        assert answer == int(a < b)
        assert index > max(a, b), "it is asked after both"
        answers.setdefault(row, set()).add(answer)
    for row, found in enumerate(of.tokens):
        base = tokens[row // (2 * half)]
        free = ~torch.isin(base, torch.tensor([A, B])) & ~torch.isin(found, torch.tensor([A, B]))
        assert torch.equal(found[free], base[free])
    for row in range(0, len(of.tokens), 2):
        assert answers[row] | answers[row + 1] == {0, 1}
        first, second = of.tokens[row], of.tokens[row + 1]
        assert sorted(first[first != second].tolist()) in ([], [B, A])
        assert row // (2 * half) == (row + 1) // (2 * half)  # and are of one group
    assert torch.equal(of.groups, of.rows // (2 * half))


def test_the_same_seed_gives_the_same_rows() -> None:
    tokens = rows_of(6, 12, True)
    for make in (
        lambda seed: relative_offset(tokens, A, 2, seed),
        lambda seed: token_order(tokens, (A, B), 2, seed),
    ):
        assert torch.equal(make(3).tokens, make(3).tokens)
        assert not torch.equal(make(3).tokens, make(4).tokens)


def test_what_all_rows_begin_with_replaces_no_marker() -> None:
    """BOS in the middle of a row would be another input than any the model has seen."""
    drawn = torch.randint(3, (40, 10), generator=torch.Generator().manual_seed(0))
    tokens = torch.tensor([A, 4, 7])[drawn]
    tokens[:, 0] = 0
    for of in (relative_offset(tokens, A, 2), token_order(tokens, (A, B), 2)):
        assert of.n_replaced > 100
        assert set(of.tokens[:, 1:].unique().tolist()) == {4, 7, *of.markers}
        assert (of.tokens[:, 0] == 0).all()


def test_markers_are_the_rarest_tokens(make_model: Callable[..., HookedTransformer]) -> None:
    model = make_model()
    tokens = torch.arange(31).repeat(2)[None].repeat(2, 1)
    tokens[0, 12] = 0
    tokens[:, 43] = 1  # 12 comes once in all, other tokens at least four times
    assert default_markers(model, tokens, 1) == (12,)
    assert default_markers(model, tokens[:, :5], 2) == (5, 6)  # they do not occur at all
    with pytest.raises(InputError, match="31 markers and another token"):
        default_markers(model, tokens, 31)


class Vocabulary:
    """What is asked of a tokenizer: `a` to `z`, after a special token, bytes and blanks."""

    all_special_ids = (0,)

    def get_vocab(self) -> dict[str, int]:
        names = ["<s>", "<0x00>", "<0x41>", "▁", "Ġ", "\x07", *"abcdefghijklmnopqrstuvwxy"]
        return {name: i for i, name in enumerate(names)}


def test_markers_are_tokens_that_one_can_see(
    make_model: Callable[..., HookedTransformer], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    monkeypatch.setattr(model, "tokenizer", Vocabulary())
    tokens = torch.tensor([[6, 7, 8, 9], [6, 7, 9, 9]])
    assert default_markers(model, tokens, 2) == (10, 11)
    everything = torch.arange(6, 31).expand(2, -1)
    assert default_markers(model, everything, 1) == (6,), "rather than a byte that is not there"
    assert default_markers(model, everything, 27)[-2:] == (1, 2)


def test_bad_input() -> None:
    tokens = rows_of(3, 8, False)
    tokens[0, 3] = A
    same = tokens[:1].expand(3, -1)
    for call, rule in [
        (lambda: absolute_position(tokens[0]), "tokens must be"),
        (lambda: absolute_position(tokens[:1]), "at least two rows"),
        (lambda: absolute_position(same), "rows must differ"),
        (lambda: absolute_position(tokens, tokens[:, 1:]), "attention_mask must have the shape"),
        (lambda: relative_offset(same, A), "rows must differ"),
        (lambda: relative_offset(tokens, A, 0), "repeats"),
        (lambda: relative_offset(tokens[:, :3], A), "at least 4 tokens"),
        (lambda: relative_offset(tokens[:, :6], A, causal=False), "at least 7 tokens"),
        (lambda: token_order(tokens, (A, B), 3), "even"),
        (lambda: token_order(tokens, (A, A), 2), "two different tokens"),
        (lambda: token_order(tokens[:, :2], (A, B), 2), "at least 3 tokens"),
        (lambda: token_order(torch.tensor([[A] * 4 + [B], [B] * 5]), (A, B), 2), "beside the mark"),
    ]:
        with pytest.raises(InputError, match=rule):
            call()
