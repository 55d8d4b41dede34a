"""Splits are of whole sequences, and the same for the same seed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InputError
from interp.probes import Split, split_by_group


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 40), st.integers(1, 5), st.integers(0, 9), st.floats(0.05, 0.45))
def test_no_sequence_is_in_two_parts(n_groups: int, most: int, seed: int, share: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, most + 1, (n_groups,), generator=generator)
    groups = (torch.arange(n_groups) * 7 + 3).repeat_interleave(sizes)
    groups = groups[torch.randperm(groups.numel(), generator=generator)]
    split = split_by_group(groups, (1 - 2 * share, share, share), seed)
    parts = [split.train, split.validation, split.test]
    owners = [set(groups[rows].tolist()) for rows in parts]
    assert all(owners)
    assert not (owners[0] & owners[1] or owners[0] & owners[2] or owners[1] & owners[2])
    assert sorted(torch.cat(parts).tolist()) == list(range(groups.numel()))
    again = split_by_group(groups, (1 - 2 * share, share, share), seed)
    repeated = (again.train, again.validation, again.test)
    assert all(torch.equal(a, b) for a, b in zip(parts, repeated, strict=True))


def test_fractions_are_of_groups_and_seeds_differ() -> None:
    groups = torch.arange(50).repeat_interleave(4)
    split = split_by_group(groups, (0.6, 0.2, 0.2))
    assert [x.numel() for x in (split.train, split.validation, split.test)] == [120, 40, 40]
    assert not torch.equal(split.test, split_by_group(groups, seed=1).test)


@pytest.mark.parametrize(
    ("groups", "fractions", "rule"),
    [
        (torch.tensor([0, 0, 1, 1]), (0.6, 0.2, 0.2), "at least three sequences"),
        (torch.arange(9), (0.5, 0.2, 0.2), "the sum 1"),
        (torch.arange(9), (0.8, 0.2), "three positive"),
        (torch.arange(9), (0.8, 0.2, 0.0), "three positive"),
        (torch.arange(9.0), (0.6, 0.2, 0.2), "groups must be whole numbers"),
    ],
)
def test_bad_splits_are_refused(groups: torch.Tensor, fractions: tuple, rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        split_by_group(groups, fractions)


def test_a_hand_made_split_may_not_leak() -> None:
    groups = torch.tensor([0, 0, 1, 2])
    Split(torch.tensor([0, 1]), torch.tensor([2]), torch.tensor([3]), groups)
    with pytest.raises(InputError, match="group 0 in train and test"):
        Split(torch.tensor([0]), torch.tensor([2]), torch.tensor([1]), groups)
    with pytest.raises(InputError, match="twice"):
        Split(torch.tensor([0, 0]), torch.tensor([2]), torch.tensor([3]), groups)
    with pytest.raises(InputError, match="0 … 3"):
        Split(torch.tensor([0, 1]), torch.tensor([2]), torch.tensor([4]), groups)
