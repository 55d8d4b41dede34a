"""Jumps that were put there are found, with a plain loop as the oracle."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InputError
from interp.toys.jumps import Jump, find_jumps, moving_intervals


def _by_loops(D: list[list[float]], least: float, moving: float) -> set[tuple[int, int, int]]:
    """Every pair of snapshots tried: all moves between them in one direction, and none longer."""
    found = set()
    n = len(D)
    for feature in range(len(D[0])):
        values = [row[feature] for row in D]

        def moves(first: int, last: int, values: list[float] = values) -> bool:
            steps = [b - a for a, b in zip(values[first:last], values[first + 1 : last + 1])]  # noqa: B905
            return all(s >= moving for s in steps) or all(-s >= moving for s in steps)

        for first in range(n):
            for last in range(first + 1, n):
                longer = (first > 0 and moves(first - 1, last)) or (
                    last < n - 1 and moves(first, last + 1)
                )
                is_enough = abs(values[last] - values[first]) >= least
                if moves(first, last) and not longer and is_enough:
                    found.add((feature, first, last))
    return found


@settings(max_examples=60, deadline=None)
@given(
    values=st.integers(2, 9).flatmap(
        lambda n: st.lists(
            st.lists(st.integers(0, 16), min_size=3, max_size=3), min_size=n, max_size=n
        )
    ),
    least=st.integers(1, 12),
    moving=st.integers(1, 4),
)
def test_jumps_are_the_longest_moves(values: list[list[int]], least: int, moving: int) -> None:
    """In sixteenths, which are exact."""
    D = [[value / 16 for value in row] for row in values]
    found = find_jumps(torch.tensor(D), least / 16, moving / 16)
    assert {(one.feature, one.first, one.last) for one in found} == _by_loops(
        D, least / 16, moving / 16
    )
    for one in found:
        assert (one.before, one.after) == (D[one.first][one.feature], D[one.last][one.feature])
    assert [one.first for one in found] == sorted(one.first for one in found)


def test_a_step_between_levels_is_one_jump() -> None:
    D = torch.full((20, 3), 0.5)
    D[:, 1] = torch.cat([torch.full((8,), 0.1), torch.tensor([0.2, 0.4]), torch.full((10,), 0.5)])
    D[:, 2] += 0.004 * torch.arange(20) % 2  # noise is no jump
    (jump,) = find_jumps(D)
    assert (jump.feature, jump.first, jump.last) == (1, 7, 10)
    assert moving_intervals([jump], 19).nonzero().flatten().tolist() == [7, 8, 9]


def test_intervals_of_several_jumps_are_joined() -> None:
    jumps = [Jump(0, 1, 3, 0.0, 0.5), Jump(1, 2, 5, 0.5, 0.0)]
    assert moving_intervals(jumps, 7).tolist() == [False, True, True, True, True, False, False]
    assert not moving_intervals([], 3).any()


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(InputError):
        find_jumps(torch.zeros(3))
    with pytest.raises(InputError):
        find_jumps(torch.zeros(3, 2), least=0.0)
    with pytest.raises(InputError):
        find_jumps(torch.zeros(3, 2), moving=-1.0)
    with pytest.raises(InputError, match="1 that are not"):
        find_jumps(torch.tensor([[0.0], [torch.nan], [0.5]]))
    with pytest.raises(InputError, match="where a jump ends"):
        moving_intervals([Jump(0, 1, 3, 0.0, 0.5)], 2)
