"""Chosen cases leave no meeting out, and are few."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import covering as module
from tests.covering import covering, every_nth, examples


@pytest.fixture(autouse=True)
def not_exhaustive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXHAUSTIVE", False)


@given(st.lists(st.integers(1, 4), min_size=2, max_size=4), st.data())
def test_any_values_of_so_many_axes_meet(sizes: list[int], data: st.DataObject) -> None:
    strength = data.draw(st.integers(1, len(sizes)))
    module.EXHAUSTIVE = False
    axes = [[f"{axis}{i}" for i in range(size)] for axis, size in enumerate(sizes)]
    cases = covering(*axes, strength=strength)
    assert len(set(cases)) == len(cases)
    for some in itertools.combinations(range(len(axes)), strength):
        met = {tuple(case[axis] for axis in some) for case in cases}
        assert met == set(itertools.product(*(axes[axis] for axis in some)))


def test_they_are_few() -> None:
    assert len(covering(range(4), range(4), range(4))) <= 20  # of 64; 16 is the least
    assert len(covering(range(5), range(4), range(3), range(4), strength=2)) <= 26  # of 240


def test_all_of_them_where_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXHAUSTIVE", True)
    assert covering("ab", "xyz") == list(itertools.product("ab", "xyz"))
    assert every_nth([1, 2, 3, 4], 3, 1) == [1, 2, 3, 4]
    assert examples(100) == 100


def test_shared_out() -> None:
    values = list(range(10))
    shares = [every_nth(values, 3, first) for first in (3, 4, 5)]
    assert sorted(itertools.chain(*shares)) == values


def test_strength_is_within_the_axes() -> None:
    with pytest.raises(ValueError, match="1 … 2"):
        covering("ab", "cd", strength=3)


def test_a_third_of_the_examples_and_never_none() -> None:
    assert [examples(n) for n in (1, 3, 4, 120)] == [1, 1, 2, 40]
