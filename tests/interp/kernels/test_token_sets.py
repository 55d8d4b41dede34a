"""Listed and masked members against the definition, pair by pair."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.kernels import token_sets
from interp.kernels.token_sets import Listed, Masked, TokenSets


@pytest.mark.parametrize("many", [0, 10**9])
@settings(max_examples=60, deadline=None)
@given(
    tokens=st.lists(st.integers(-1, 3), min_size=1, max_size=9),
    real=st.lists(st.booleans(), min_size=9, max_size=9),
    data=st.data(),
)
def test_members(many: int, tokens: list[int], real: list[bool], data: st.DataObject) -> None:
    n = len(tokens)
    there = [j for j in range(n) if real[j]]
    n_queries = data.draw(st.integers(1, n))
    first = data.draw(st.integers(0, len(there)))
    last = data.draw(st.integers(first, len(there) + 2))  # a block may reach beyond the last key
    queries = range(n - n_queries, n)
    before = torch.tensor([sum(1 for j in there if j < i) for i in queries])
    up_to = torch.tensor([sum(1 for j in there if j <= i) for i in queries])
    sets = TokenSets(
        torch.tensor(tokens), torch.tensor(there, dtype=torch.int64), torch.zeros_like(before),
        before, up_to,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_sets, "_MANY", many)
        found = sets.within(slice(0, n_queries), first, last)
    e = torch.rand(2, n_queries, last - first, dtype=torch.float64)
    for name, members in found.items():
        expected = torch.zeros(2, n_queries, dtype=torch.float64)
        for row, i in enumerate(queries):
            for key, j in enumerate(there):
                if not first <= key < last:
                    continue
                if name == "same_token_mass":
                    member = j < i and tokens[j] == tokens[i]
                else:
                    member = key > 0 and j <= i and tokens[there[key - 1]] == tokens[i]
                if member:
                    expected[:, row] += e[:, row, key - first]
        total = torch.zeros(2, n_queries, dtype=torch.float64)
        members.add(e, total)
        torch.testing.assert_close(total, expected, rtol=0, atol=1e-12)
        # Without any pair, a list is as good as a mask.
        assert isinstance(members, Listed if many == 0 else Masked | Listed)


def test_which_form() -> None:
    rare, common = torch.arange(64), torch.zeros(64, dtype=torch.int64)
    index = torch.arange(64)
    for tokens, form in ((rare, Listed), (common, Masked)):
        sets = TokenSets(tokens, None, torch.zeros_like(index), index, index + 1)
        assert all(isinstance(m, form) for m in sets.within(slice(0, 64), 0, 64).values())


@pytest.mark.parametrize("name", ["same_token_mass", "induction_mass"])
def test_only_what_is_asked_for_is_made(name: str) -> None:
    index = torch.arange(64)
    for tokens in (index, torch.zeros_like(index)):
        sets = TokenSets(tokens, None, torch.zeros_like(index), index, index + 1, [name])
        assert list(sets.within(slice(0, 64), 0, 64)) == [name]


def test_windows_keep_far_occurrences_out_of_the_list() -> None:
    """Pairs are counted within reach of the window, so a long text of one word stays cheap."""
    index = torch.arange(512)
    low = (index - 3).clamp(min=0)
    sets = TokenSets(torch.zeros_like(index), None, low, index, index + 1)
    assert int((sets.end - sets.begin).max()) <= 4
