from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp import FactoredMatrix, InputError
from interp.weight_circuits import (
    chunked_norm,
    diagonal_in_top,
    entry_statistics,
    row_norms,
    top_pairs,
    top_per_row,
)
from interp.weight_circuits.chunks import blocks

Check = Callable[..., None]


def _matrix(rows: int, middle: int, columns: int, seed: int = 0) -> FactoredMatrix:
    generator = torch.Generator().manual_seed(seed)
    A = torch.randn(rows, middle, generator=generator, dtype=torch.float64)
    return FactoredMatrix(A, torch.randn(middle, columns, generator=generator, dtype=torch.float64))


_sizes = st.integers(1, 9)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rows=_sizes, columns=_sizes, middle=st.integers(1, 4), k=st.integers(1, 12),
    chunk=st.integers(1, 10), largest=st.booleans(), off=st.booleans(),
)  # fmt: skip
def test_top_pairs(
    assert_close: Check, rows: int, columns: int, middle: int, k: int, chunk: int,
    largest: bool, off: bool,
) -> None:  # fmt: skip
    m = _matrix(rows, middle, columns)
    found = top_pairs(m, k, chunk, largest, off)
    entries = [
        (float(m.AB[i, j]), i, j)
        for i in range(rows)
        for j in range(columns)
        if not (off and i == j)
    ]
    entries.sort(reverse=largest)
    assert len(found) == min(k, len(entries))
    expected = torch.tensor([v for v, _, _ in entries[:k]], dtype=torch.float64)
    assert_close(found.values, expected)
    assert_close(m.AB[found.rows, found.columns], found.values)
    assert list(zip(found.rows.tolist(), found.columns.tolist(), strict=True)) == [
        (i, j) for _, i, j in entries[:k]
    ]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    rows=_sizes, columns=_sizes, k=st.integers(1, 5), chunk=st.integers(1, 10),
    largest=st.booleans(), data=st.data(),
)  # fmt: skip
def test_top_per_row(
    assert_close: Check, rows: int, columns: int, k: int, chunk: int, largest: bool,
    data: st.DataObject,
) -> None:  # fmt: skip
    m = _matrix(rows, 3, columns)
    chosen = data.draw(st.lists(st.integers(0, rows - 1), max_size=6))
    places, values = top_per_row(m, chosen, k, chunk, largest)
    assert places.shape == values.shape == (len(chosen), min(k, columns))
    for row, place, value in zip(chosen, places, values, strict=True):
        order = m.AB[row].argsort(descending=largest)[:k]
        assert torch.equal(place, order)
        assert_close(value, m.AB[row][order])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(n=st.integers(1, 9), k=st.integers(1, 4), chunk=st.integers(1, 10))
def test_diagonal(assert_close: Check, n: int, k: int, chunk: int) -> None:
    m = _matrix(n, 2, n, seed=n)
    dense = m.AB
    expected = [int(dense[i].argsort(descending=True).tolist().index(i)) < k for i in range(n)]
    assert diagonal_in_top(m, k, chunk).tolist() == expected
    found = entry_statistics(m)
    off = dense[~torch.eye(n, dtype=torch.bool)]
    assert found.mean == pytest.approx(float(dense.mean()), abs=1e-12)
    assert found.std == pytest.approx(float(dense.std(correction=0)), abs=1e-9)
    assert found.diagonal == pytest.approx(float(dense.diagonal().mean()), abs=1e-12)
    if n > 1:
        assert found.off_diagonal == pytest.approx(float(off.mean()), abs=1e-12)
        contrast = (found.diagonal - found.off_diagonal) / found.std
        assert found.contrast == pytest.approx(contrast)


def test_equal_entries_have_no_spread() -> None:
    n = 7
    m = FactoredMatrix(torch.full((n, 1), 0.1), torch.full((1, n), 3.0))
    assert (entry_statistics(m).std, entry_statistics(m).contrast) == (0.0, 0.0)
    assert diagonal_in_top(m).all()  # ties count as among the largest


def test_norms(assert_close: Check) -> None:
    m = _matrix(11, 3, 5)
    for chunk in (1, 4, 11, None):
        assert chunked_norm(m, chunk) == pytest.approx(float(m.norm()), rel=1e-12)
    assert_close(row_norms(m), m.AB.norm(dim=-1))
    many = FactoredMatrix(torch.randn(2, 4, 3), torch.randn(2, 3, 6))
    assert_close(row_norms(many), many.AB.norm(dim=-1))


def test_no_more_is_made_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    m = _matrix(1000, 2, 300)
    made: list[tuple[int, ...]] = []
    product = Tensor.__matmul__

    def watched(a: Tensor, b: Tensor) -> Tensor:
        found = product(a, b)
        made.append(tuple(found.shape))
        return found

    monkeypatch.setattr(Tensor, "__matmul__", watched)
    top_pairs(m, 5, chunk=16)
    assert made == [(16, 300)] * 62 + [(8, 300)]


def test_what_cannot_be_read() -> None:
    m = _matrix(4, 2, 5)
    many = FactoredMatrix(torch.randn(2, 4, 3), torch.randn(2, 3, 4))
    for call, message in (
        (lambda: top_pairs(m, 0), "k must be"),
        (lambda: top_pairs(m, 1, chunk=0), "chunk must be"),
        (lambda: top_pairs(many), "one matrix at a time"),
        (lambda: top_per_row(m, [0, 4]), r"rows must lie in 0 … 3. Received \[4\]"),
        (lambda: top_per_row(m, [-1]), "rows must lie"),
        (lambda: diagonal_in_top(m), "as many logits as tokens"),
        (lambda: entry_statistics(m), "as many logits as tokens"),
        (lambda: [*blocks(many)], "one matrix at a time"),
    ):
        with pytest.raises(InputError, match=message):
            call()
