"""Covariance beside numpy's, also of heads, however rows are cut into shards."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import InputError
from interp.harvest.statistics import Covariance
from interp.harvest.statistics import covariance as module


@settings(deadline=None)
@given(
    shape=st.sampled_from([(1,), (4,), (3, 4), (2, 3, 2)]),
    n=st.integers(1, 40),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    seed=st.integers(0, 1000),
)
def test_any_cut_gives_numpys(shape: tuple[int, ...], n: int, cuts: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(n, *shape, generator=generator) @ torch.randn(
        shape[-1], shape[-1], generator=generator
    )
    parts = [Covariance.measure(part) for part in rows.tensor_split(sorted(cuts))]
    found = reduce(Covariance.merge, parts)
    covariance = found.covariance()
    assert covariance.shape == (*shape, shape[-1])
    assert torch.equal(covariance, covariance.mT)
    x = rows.double().numpy().reshape(n, -1, shape[-1])
    for head, of_head in enumerate(covariance.view(-1, shape[-1], shape[-1])):
        expected = np.cov(x[:, head].T, bias=True).reshape(of_head.shape)
        scale = max(1, np.abs(expected).max())
        np.testing.assert_allclose(of_head.numpy(), expected, rtol=0, atol=1e-10 * scale)
    np.testing.assert_allclose(found.mean.numpy(), rows.double().mean(0).numpy(), atol=1e-12)


def test_a_mean_far_from_zero_costs_no_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_VALUES", 1000)  # many blocks
    rows = torch.randn(3000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = (1e5 + rows) * torch.tensor([1.0, -2.0])
    exact = (rows - torch.tensor([1e5, -2e5], dtype=torch.float64)).numpy()
    found = Covariance.measure(rows).covariance().numpy()
    np.testing.assert_allclose(found, np.cov(exact.T, bias=True), rtol=1e-10, atol=1e-10)


def test_rows_must_be_finite_vectors() -> None:
    with pytest.raises(InputError, match="needs rows that are vectors"):
        Covariance.measure(torch.ones(3))
    with pytest.raises(InputError, match="rows must be finite"):
        Covariance.measure(torch.tensor([[1.0, torch.nan]]))
