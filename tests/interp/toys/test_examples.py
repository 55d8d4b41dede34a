"""Finite sets: what is in them, however they are stacked, and what a batch of them is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InputError
from interp.toys import FiniteExamples, ReconstructionLoss, SparseFeatures


def source(n_instances: int, seeds: Any = 0) -> SparseFeatures:
    return SparseFeatures.of(
        n_instances, 5, 0.4, values="signed", target="absolute", seeds=seeds, dtype=torch.float64
    )


@settings(max_examples=25)
@given(sizes=st.lists(st.integers(1, 150), min_size=1, max_size=4))
def test_a_set_is_the_beginning_of_any_larger_one(sizes: list[int]) -> None:
    data = FiniteExamples.of(source(len(sizes), [3] * len(sizes)), sizes)
    assert data.x.shape == (len(sizes), max(sizes), 5)
    for i, size in enumerate(sizes):
        alone = FiniteExamples.of(source(1, [3]), size)
        assert torch.equal(data.x[i, :size], alone.x[0])
        assert torch.equal(data.target[i, :size], alone.x[0].abs())
        assert not bool(data.x[i, size:].any())
        part = data.select(torch.tensor([i]))
        assert torch.equal(part.x, alone.x) and torch.equal(part.target, alone.target)
    assert data.seen.sum(1).tolist() == sizes


def test_the_whole_set_weighs_every_example_alike() -> None:
    data = FiniteExamples.of(source(3), [4, 70, 1])
    batch = data.batch(0, None)
    assert batch.weight is not None
    assert batch.weight.sum(1).tolist() == pytest.approx([1, 1, 1], abs=1e-14)
    # The loss of the whole set is the plain mean over each instance's own examples.
    output = torch.rand_like(batch.x)
    loss = ReconstructionLoss.of(3, 5, torch.rand(5), dtype=torch.float64)
    found = loss(output, batch)
    for i, size in enumerate([4, 70, 1]):
        error = (output[i, :size] - data.target[i, :size]) ** 2 * loss.importance[i]
        assert float((found[i] - error.mean()).abs()) < 1e-14


def test_a_batch_is_drawn_evenly_from_an_instances_own_examples() -> None:
    data = FiniteExamples.of(source(2), [3, 40])
    x = data.batch(torch.tensor(7), 6000).x
    for i, size in enumerate([3, 40]):
        which = (x[i][:, None] == data.x[i][None, :size]).all(2)
        # Two examples may be equal only if both are empty: 0.6⁵ each.
        counts = which.double()[:, (data.x[i, :size] != 0).any(1)].sum(0)
        expected = 6000 / size
        assert float(((counts - expected) ** 2 / expected).mean()) < 3
        assert bool(which.any(1).all())
    again = data.select(torch.tensor([1])).batch(7, 6000)
    assert torch.equal(again.x[0], x[1])
    assert torch.equal(again.target[0], x[1].abs())
    assert not torch.equal(data.batch(8, 6000).x, x)


@pytest.mark.parametrize("sizes", [0, [3], [3, -1], [1, 2, 3], [2, 2.5], [2, True]])
def test_bad_sizes_are_refused(sizes: Any) -> None:
    with pytest.raises(InputError, match="sizes must be positive, one for each of 2"):
        FiniteExamples.of(source(2), sizes)


def test_sets_of_the_users_are_checked() -> None:
    x, sizes, seeds = torch.rand(2, 4, 3), torch.tensor([4, 2]), torch.tensor([0, 1])
    made = FiniteExamples(x=x, target=x[..., :1], sizes=sizes, seeds=seeds)
    assert made.batch(0, 9).target.shape == (2, 9, 1)
    with pytest.raises(InputError, match="same instances and examples"):
        FiniteExamples(x=x, target=x[:, :3], sizes=sizes, seeds=seeds)
    with pytest.raises(InputError, match="one for each of 2 instances"):
        FiniteExamples(x=x, target=x, sizes=sizes[:1], seeds=seeds)
    with pytest.raises(InputError, match=r"1 … 4. Received \[5, 2\]"):
        FiniteExamples(x=x, target=x, sizes=torch.tensor([5, 2]), seeds=seeds)
    with pytest.raises(InputError, match="target must be finite"):
        FiniteExamples(x=x, target=x / 0, sizes=sizes, seeds=seeds)
    with pytest.raises(InputError, match="seed must not be negative"):
        FiniteExamples(x=x, target=x, sizes=sizes, seeds=seeds - 1)
