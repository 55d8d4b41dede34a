"""The largest rows against a stable sort of all of them, with many ties."""

from __future__ import annotations

from functools import reduce

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp import InputError
from interp.harvest.statistics import MaxActivating
from interp.harvest.statistics import max_activating as module


def check(found: MaxActivating, rows: Tensor, k: int) -> None:
    values, numbers = rows.double().sort(dim=0, descending=True, stable=True)
    kept = min(k, len(rows))
    assert found.n_rows == len(rows)
    assert torch.equal(found.values, values[:kept].movedim(0, -1))
    assert torch.equal(found.rows, numbers[:kept].movedim(0, -1))


@settings(deadline=None)
@given(
    n=st.integers(0, 60),
    shape=st.sampled_from([(), (1,), (3,), (2, 3), (70,)]),
    levels=st.sampled_from([1, 2, 5, 1000]),
    kept=st.integers(1, 12),
    cuts=st.lists(st.integers(0, 60), max_size=4),
    block=st.integers(1, 20),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.int64]),
    seed=st.integers(0, 1000),
)
def test_any_cut_gives_the_first_of_a_stable_sort(
    n: int,
    shape: tuple[int, ...],
    levels: int,
    kept: int,
    cuts: list[int],
    block: int,
    dtype: torch.dtype,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(-levels, levels, (n, *shape), generator=generator)
    rows = (drawn / 3).to(dtype) if dtype.is_floating_point else drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "KEPT", kept)
        patch.setattr(module, "_BLOCK_ROWS", block)
        parts = [MaxActivating.measure(part) for part in rows.tensor_split(sorted(cuts))]
        check(reduce(MaxActivating.merge, parts), rows, kept)


@pytest.mark.parametrize("order", ["rising", "falling", "constant"])
def test_many_rows_in_unkind_orders(order: str) -> None:
    rising = torch.arange(20_000.0)[:, None]
    rows = {"rising": rising, "falling": -rising, "constant": torch.zeros(20_000, 1)}[order]
    check(MaxActivating.measure(rows), rows, 32)


@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan])
def test_rows_must_be_finite(bad: float) -> None:
    rows = torch.ones(300, 2)
    rows[77, 1] = bad
    with pytest.raises(InputError, match="rows must be finite"):
        MaxActivating.measure(rows)
