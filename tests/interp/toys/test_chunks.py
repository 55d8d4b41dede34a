"""How instances are divided: each once, in order, by what a machine can hold."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InputError
from interp.toys import FiniteExamples, ReconstructionLoss, SparseFeatures, ToyModel, ToySettings
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


def test_chunks_are_made_for_the_largest_of_finite_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks_module, "_ELEMENTS_ON_CPU", 120)
    data = FiniteExamples.of(SparseFeatures.of(4, 3), [1, 2, 10, 3])
    given = ToyModel(4, 3, 1), data, ReconstructionLoss.of(4, 3)
    whole = ToySettings(steps=1, batch_size=None)
    assert [len(part) for part in chunks_of(*given, whole, None)] == [2, 2]  # 60 at most in each
    assert len(chunks_of(*given, ToySettings(steps=1, batch_size=2), None)) == 1


def test_what_stays_after_the_first_pass_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a GPU, where the first product makes cuBLAS take memory of its own.
    extra = iter([1000])
    monkeypatch.setattr(
        chunks_module, "_peak", lambda *given: next(extra, 0) + 7 + 30 * len(given[-1])
    )
    monkeypatch.setattr(chunks_module, "free_memory", lambda device: 200)
    found = chunks_module._fitting_on_gpu(
        ToyModel(9, 3, 1),
        SparseFeatures.of(9, 3),
        ReconstructionLoss.of(9, 3),
        ToySettings(steps=1, batch_size=4),
        torch.zeros(1, dtype=torch.int64),
    )
    assert found == 4  # 0.7 · 200 // 30
    monkeypatch.setattr(chunks_module, "free_memory", lambda device: 40)
    with pytest.raises(InputError, match="one instance takes 30 B"):
        chunks_module._fitting_on_gpu(
            ToyModel(9, 3, 1),
            SparseFeatures.of(9, 3),
            ReconstructionLoss.of(9, 3),
            ToySettings(steps=1, batch_size=4),
            torch.zeros(1, dtype=torch.int64),
        )
