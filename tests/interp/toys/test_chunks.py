"""How instances are divided: each once, in order, by what a machine can hold."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.toys import ReconstructionLoss, SparseFeatures, ToyModel, ToySettings
from interp.toys import chunks as chunks_module
from interp.toys.chunks import chunks_of


def divided(count: int, chunk_size: int | None, batch_size: int = 4) -> list[int]:
    parts = chunks_of(
        ToyModel(count, 3, 1),
        SparseFeatures.of(count, 3),
        ReconstructionLoss.of(count, 3),
        ToySettings(steps=1, batch_size=batch_size),
        chunk_size,
    )
    assert torch.equal(torch.cat(parts), torch.arange(count))
    return [len(part) for part in parts]


@settings(max_examples=40)
@given(count=st.integers(1, 40), chunk_size=st.integers(1, 50))
def test_chunks_are_of_nearly_equal_size(count: int, chunk_size: int) -> None:
    sizes = divided(count, chunk_size)
    assert max(sizes) <= chunk_size
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == -(-count // chunk_size)


def test_on_a_cpu_a_chunk_is_what_a_cache_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks_module, "_ELEMENTS_ON_CPU", 72)
    assert divided(7, None) == [3, 2, 2]  # 24 inputs and outputs each
    assert divided(3, None, batch_size=1000) == [1, 1, 1]
