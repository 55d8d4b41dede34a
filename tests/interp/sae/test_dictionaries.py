"""Cosines, matchings and duplicates beside plain loops and dictionaries made to have them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import InputError
from interp.sae import cosines, duplicates, match_units, mean_max_cosine


def _cosine(a: list[float], b: list[float]) -> float:
    sizes = math.hypot(*a) * math.hypot(*b)
    return sum(x * y for x, y in zip(a, b, strict=True)) / sizes if sizes else 0.0


@settings(max_examples=20, deadline=None)
@given(units=st.integers(1, 6), features=st.integers(1, 6), seed=st.integers(0, 99))
def test_both_directions_beside_a_loop(
    inputs: Any, assert_close: Any, units: int, features: int, seed: int
) -> None:
    a, b = inputs(units, 4, seed), inputs(features, 4, seed + 1)
    a[0] *= seed % 2  # at times a row of zeros
    table = [[_cosine(x, y) for y in b.tolist()] for x in a.tolist()]
    assert_close(cosines(a, b), torch.tensor(table, dtype=torch.float64))
    found = mean_max_cosine(a, b)
    of_units = sum(max(row) for row in table) / units
    of_features = sum(max(row[j] for row in table) for j in range(features)) / features
    assert found.of_units.item() == pytest.approx(of_units, abs=1e-12)
    assert found.of_features.item() == pytest.approx(of_features, abs=1e-12)
    other = mean_max_cosine(b, a)
    assert other.of_units.item() == pytest.approx(of_features, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(features=st.integers(1, 6), more=st.integers(0, 3), seed=st.integers(0, 99))
def test_a_shuffled_dictionary_is_matched(
    inputs: Any, assert_close: Any, features: int, more: int, seed: int
) -> None:
    true = inputs(features, 7, seed)
    order = torch.randperm(features + more, generator=torch.Generator().manual_seed(seed))
    scaled = true * torch.arange(1, features + 1)[:, None]
    dictionary = torch.cat([scaled, inputs(more, 7, seed + 50)])[order]
    found = match_units(dictionary, true)
    assert torch.equal(order[found.unit], torch.arange(features))
    assert_close(found.cosine, torch.ones(features, dtype=torch.float64))
    assert mean_max_cosine(dictionary, true).of_features.item() == pytest.approx(1)


def test_a_unit_serves_one_feature() -> None:
    true = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    found = match_units(torch.tensor([[0.8, 0.6]]), true)
    assert found.unit.tolist() == [-1, 0]
    assert found.cosine.tolist() == pytest.approx([0.0, 1.0])
    assert mean_max_cosine(torch.tensor([[0.8, 0.6]]), true).of_features == pytest.approx(0.9)


def test_the_other_way_is_another_direction() -> None:
    assert mean_max_cosine(torch.tensor([[-1.0, 0.0]]), torch.tensor([[1.0, 0.0]])).of_units == -1
    assert not duplicates(torch.tensor([[-1.0, 0.0], [1.0, 0.0]])).any()


def test_duplicates() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.1], [0.1, 1.0], [1.0, 1.0], [5.0, 0.0]])
    assert duplicates(rows).tolist() == [False, False, True, True, False, True]
    assert duplicates(rows, 0.9999).tolist() == [False, False, False, False, False, True]
    assert not duplicates(torch.zeros(3, 2)).any()
    assert duplicates(torch.zeros(0, 2)).shape == (0,)


@pytest.mark.parametrize("at_once", [1, 2, 4, 6])
def test_duplicates_a_part_at_a_time(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.1], [0.1, 1.0], [1.0, 1.0], [5.0, 0.0]])
    monkeypatch.setattr("interp.sae.dictionaries._ROWS_AT_ONCE", at_once)
    assert duplicates(rows).tolist() == [False, False, True, True, False, True]


def test_bad_input() -> None:
    with pytest.raises(InputError, match=r"Received \(2, 3\) and \(2, 4\)"):
        cosines(torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(InputError, match="must have rows"):
        mean_max_cosine(torch.ones(0, 3), torch.ones(2, 3))
