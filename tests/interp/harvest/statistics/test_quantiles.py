"""Quantiles against sorted rows, on the distributions that sketches find hard."""

from __future__ import annotations

import math
from functools import reduce
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp import InputError
from interp.harvest.statistics import RELATIVE_ERROR, QuantileSketch

QS = (0.0, 0.001, 0.01, 0.25, 0.3, 0.5, 0.75, 0.9, 0.999, 1.0)
TINY = 2.0**-126


def check(found: QuantileSketch, rows: Tensor) -> None:
    """Every quantile is as near to the row of its rank as is promised."""
    ordered = rows.double().sort(0).values
    for q in QS:
        rank = max(math.ceil(q * len(rows)), 1)
        value, got = ordered[rank - 1], found.quantile(q)
        assert got.shape == rows.shape[1:]
        allowed = torch.where(value.abs() >= TINY, value.abs() * RELATIVE_ERROR, 2.0**-131)
        assert bool(((got - value).abs() <= allowed).all()), (q, value, got)
        assert bool((got[value == 0] == 0).all())


def hard(n: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, generator=generator, dtype=torch.float64)
    u = torch.rand(n, generator=generator, dtype=torch.float64)
    return {
        "gauss": x.float(),
        "cauchy": torch.tan(math.pi * (u - 0.5)).float(),
        "every exponent": (x.sign() * torch.exp2(290 * u - 165)).float(),
        "denormal": (x * 1e-41).float(),
        "half denormal": (x * 1e-6).half(),
        "half": x.half(),
        "brain": x.bfloat16(),
        "double": x * 1e30,
        "double below float32": x * 1e-60,
        "zeros": torch.zeros(n),
        "relu": x.relu().float(),
        "constant": torch.full((n,), -3.7),
        "powers of two": torch.exp2((40 * u).round()).float(),
        "largest": torch.where(x > 0, 1, -1) * torch.finfo(torch.float32).max,
        "two values": torch.where(x > 2, 1e9, -1e-9).float(),
        "far from zero": (1e6 + x).float(),
        "whole": (x * 100).long(),
    }


@pytest.mark.parametrize("name", list(hard(2)))
@pytest.mark.parametrize("n", [1, 2, 1009])
def test_hard_rows(name: str, n: int) -> None:
    rows = hard(n)[name][:, None]
    check(QuantileSketch.measure(rows), rows)


def test_rank_is_numpys() -> None:
    """Powers of two are told apart exactly, so this is numpy's own choice of a row."""
    rows = torch.exp2(torch.arange(17.0))[torch.randperm(17, generator=torch.Generator())]
    found = QuantileSketch.measure(rows[:, None])
    for q in np.linspace(0, 1, 101):
        value = np.quantile(rows.numpy(), q, method="inverted_cdf")
        assert abs(found.quantile(float(q)).item() / value - 1) <= RELATIVE_ERROR


def test_the_error_is_as_small_as_said_and_no_smaller() -> None:
    """Rows at both ends of bins are off by almost all that is allowed."""
    ends = torch.cat([torch.linspace(1, 2, 33), torch.linspace(1, 2, 33) - 1e-6])
    off = [
        abs(QuantileSketch.measure(end.view(1, 1)).quantile(0.5).item() / end.item() - 1)
        for end in ends
    ]
    assert 0.99 / 65 < max(off) < RELATIVE_ERROR


@settings(deadline=None)
@given(
    n=st.integers(0, 30),
    shape=st.sampled_from([(), (1,), (3,), (2, 3), (130,)]),
    cuts=st.lists(st.integers(0, 30), max_size=4),
    seed=st.integers(0, 1000),
)
def test_merging_is_exact_in_any_order(
    n: int, shape: tuple[int, ...], cuts: list[int], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.exp2(torch.randint(-9, 9, (n, *shape), generator=generator).float())
    rows = torch.randn(n, *shape, generator=generator) * scale
    parts = [QuantileSketch.measure(part) for part in rows.tensor_split(sorted(cuts))]
    whole = QuantileSketch.measure(rows)
    Random(seed).shuffle(parts)
    found = reduce(QuantileSketch.merge, parts)
    assert found.n_rows == whole.n_rows
    assert torch.equal(found.keys, whole.keys)
    assert torch.equal(found.counts, whole.counts)
    if n:
        check(found, rows)


@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan, 1e39])
def test_rows_must_be_finite_as_float32(bad: float) -> None:
    rows = torch.ones(5, 2, dtype=torch.float64)
    rows[3, 1] = bad
    with pytest.raises(InputError, match=r"rows must be finite, and at most 3\.4e38"):
        QuantileSketch.measure(rows)


def test_what_cannot_be_asked() -> None:
    found = QuantileSketch.measure(torch.ones(2, 1))
    with pytest.raises(InputError, match=r"q must lie in 0 … 1\. Received 1\.5"):
        found.quantile(1.5)
    with pytest.raises(InputError, match=r"a quantile needs rows"):
        QuantileSketch.measure(torch.ones(0, 1)).quantile(0.5)
