"""A choice along an axis picks what plain indexing picks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp import InputError
from interp.run.slicing import Slice

_maybe = st.none() | st.integers(-8, 8)
_steps = st.none() | st.integers(1, 4)


@given(size=st.integers(1, 6), start=_maybe, stop=_maybe, step=_steps, dim=st.integers(-3, 2))
def test_ranges(size: int, start: int | None, stop: int | None, step: int | None, dim: int) -> None:
    shape = [2, 3, 4]
    shape[dim] = size
    x = torch.arange(torch.Size(shape).numel()).reshape(shape)
    index: list[Any] = [slice(None)] * 3
    index[dim] = slice(start, stop, step)
    expected = x[tuple(index)]
    for given_as in ((start, stop, step), slice(start, stop, step)):
        chosen = Slice(given_as)
        assert torch.equal(chosen.apply(x, dim), expected)
        assert chosen.indices(size) == list(range(size))[start:stop:step]
    if step is None:
        assert torch.equal(Slice((start, stop)).apply(x, dim), expected)
    assert chosen.apply(x, dim).untyped_storage().data_ptr() == x.untyped_storage().data_ptr()


@given(
    size=st.integers(1, 6),
    places=st.lists(st.integers(-8, 8), min_size=1, max_size=5),
    dim=st.integers(-3, 2),
)
def test_lists_of_places(size: int, places: list[int], dim: int) -> None:
    shape = [2, 3, 4]
    shape[dim] = size
    x = torch.arange(torch.Size(shape).numel()).reshape(shape)
    fits = all(-size <= p < size for p in places)
    for given_as in (places, np.array(places), torch.tensor(places)):
        chosen = Slice(given_as)
        if fits:
            expected = torch.stack([x.select(dim, p) for p in places], dim)
            assert torch.equal(chosen.apply(x, dim), expected)
            assert chosen.indices(size) == [list(range(size))[p] for p in places]
        else:
            with pytest.raises(InputError, match=f"outside an axis of length {size}"):
                chosen.apply(x, dim)


@given(size=st.integers(1, 6), place=st.integers(-8, 8), dim=st.integers(-3, 2))
def test_one_place_drops_the_axis(size: int, place: int, dim: int) -> None:
    shape = [2, 3, 4]
    shape[dim] = size
    x = torch.arange(torch.Size(shape).numel()).reshape(shape)
    for given_as in (place, np.int64(place), torch.tensor(place)):
        chosen = Slice(given_as)
        if -size <= place < size:
            assert torch.equal(chosen.apply(x, dim), x.select(dim, place))
            assert chosen.indices(size) == [list(range(size))[place]]
        else:
            with pytest.raises(InputError, match=f"outside an axis of length {size}"):
                chosen.apply(x, dim)


def test_everything() -> None:
    x = torch.arange(6).reshape(2, 3)
    for given_as in (None, slice(None), (None,), (None, None), (None, None, None)):
        chosen = Slice(given_as)
        assert chosen.is_everything
        assert chosen.apply(x, 1) is x
        assert chosen.indices(3) == [0, 1, 2]
    for given_as in (0, (0, None), [0, 1], slice(0, 3)):
        assert not Slice(given_as).is_everything


def test_masks() -> None:
    x = torch.arange(6).reshape(2, 3)
    for given_as in ([True, False, True], torch.tensor([True, False, True])):
        assert torch.equal(Slice(given_as).apply(x, 1), x[:, [0, 2]])
        assert Slice(given_as).indices(3) == [0, 2]


def test_unwrap() -> None:
    chosen = Slice((1, 3))
    assert Slice.unwrap(chosen) is chosen
    assert Slice.unwrap([1, 2]).indices(4) == [1, 2]
    assert repr(Slice(3)) == "Slice(3)"


@pytest.mark.parametrize(
    "bad", ["1", 1.5, True, False, (), (0, 1, 2, 3), [0.5], [[0, 1]], torch.zeros(2), {1}, object()]
)
def test_what_is_no_slice(bad: Any) -> None:
    with pytest.raises(InputError, match="slice"):
        Slice(bad)
