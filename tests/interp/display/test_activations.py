"""A cache's table in a notebook, read back."""

from __future__ import annotations

import torch
from torch import Tensor

from interp import ActivationCache
from interp.devices.memory import bytes_kept, readable
from interp.display.activations import activations_html
from tests.interp.charts.test_export import Reader


def rows_of(named: dict[str, Tensor]) -> list[list[str]]:
    page = Reader(activations_html(named))
    assert page.open == []
    return [cells for cells in page.cells if cells]


def test_each_tensor_has_a_row_and_shared_memory_is_counted_once() -> None:
    first = torch.zeros(2, 3, dtype=torch.float64)
    named = {"a": first, "b": first[0], "c": torch.ones(5, dtype=torch.int8)}
    assert rows_of(named) == [
        ["a", "[2, 3]", "float64", "48 B", ""],
        ["b", "[3]", "float64", "", "a"],
        ["c", "[5]", "int8", "5 B", ""],
    ]
    page = Reader(activations_html(named))
    assert page.texts["summary"] == "ActivationCache: 3 tensors, 53 B on cpu"
    assert rows_of({}) == []


def test_names_are_no_markup() -> None:
    name = "<img src=x onerror=alert(1)>"
    page = Reader(activations_html({name: torch.zeros(1)}))
    assert "img" not in [tag for tag, _ in page.tags]
    assert page.cells[-1][0] == name


def test_a_cache_shows_what_it_holds(make_model) -> None:
    model = make_model()
    _, cache = model.run_with_cache(torch.tensor([[1, 2, 3]]))
    page = Reader(cache._repr_html_())
    rows = [cells for cells in page.cells if cells]
    assert [cells[0] for cells in rows] == list(cache)
    assert [cells[1] for cells in rows] == [str(list(cache[name].shape)) for name in cache]
    assert readable(bytes_kept(cache.values())) in page.texts["summary"]
    assert "open" not in dict(page.tags[0][1])  # folded where it is long
    assert isinstance(cache, ActivationCache) and repr(cache).startswith("ActivationCache: ")
