"""Shards and batches hold every sequence once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.errors import InputError
from interp.harvest.plan import ShardPlan


@given(
    n=st.integers(1, 300), length=st.integers(1, 40), tokens=st.integers(1, 500),
    batch=st.integers(1, 50),
)  # fmt: skip
def test_every_sequence_is_in_one_batch_of_one_shard(
    n: int, length: int, tokens: int, batch: int
) -> None:
    plan = ShardPlan.make(n, length, tokens, batch)
    shards = [list(plan.sequences(shard)) for shard in range(plan.n_shards)]
    assert [s for shard in shards for s in shard] == list(range(n))
    assert all(len(shard) * length <= max(tokens, length) for shard in shards)
    assert len({len(shard) for shard in shards[:-1]}) <= 1
    for number, shard in enumerate(shards):
        batches = plan.batches(number)
        assert [s for batch in batches for s in batch] == shard
        assert {len(each) for each in batches[:-1]} <= {batch} and 0 < len(batches[-1]) <= batch


def test_there_is_no_other_shard() -> None:
    plan = ShardPlan.make(10, 4, 12, 2)
    assert plan.n_shards == 4
    for wrong in (-1, 4):
        with pytest.raises(InputError, match=r"0 … 3"):
            plan.sequences(wrong)
    with pytest.raises(InputError, match="n_sequences"):
        ShardPlan.make(0, 4, 12, 2)
