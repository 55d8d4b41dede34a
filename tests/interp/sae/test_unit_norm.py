"""Rows at unit length, and gradients at right angles to them."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from interp.sae.unit_norm import normalise_rows_, remove_parallel_gradient_


@settings(max_examples=20, deadline=None)
@given(units=st.integers(1, 6), d_in=st.integers(1, 6), seed=st.integers(0, 99))
def test_gradients_lose_what_is_along_rows(
    assert_close: Any, units: int, d_in: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = nn.Parameter(torch.randn(units, d_in, generator=generator, dtype=torch.float64))
    normalise_rows_(weight)
    assert_close(weight.norm(dim=1), torch.ones(units, dtype=torch.float64))
    gradient = torch.randn(units, d_in, generator=generator, dtype=torch.float64)
    weight.grad = gradient.clone()
    remove_parallel_gradient_(weight)
    w = weight.detach()
    projector = torch.eye(d_in, dtype=torch.float64) - torch.einsum("ui,uj->uij", w, w)
    assert_close(weight.grad, torch.einsum("uij,uj->ui", projector, gradient))


def test_rows_of_zeros_stay_and_no_gradient_is_no_fault() -> None:
    weight = nn.Parameter(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    normalise_rows_(weight)
    assert torch.equal(weight.detach(), torch.tensor([[0.0, 0.0], [0.6, 0.8]]))
    remove_parallel_gradient_(weight)
    assert weight.grad is None
