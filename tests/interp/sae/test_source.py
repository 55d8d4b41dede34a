"""Where inputs come from: what is drawn, in which order, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from interp import InputError
from interp.sae.source import is_stream, make_draw, samples


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Rows:
    """A data set that counts how it is read."""

    def __init__(self, rows: Tensor) -> None:
        self.rows, self.single = rows, 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        self.single += 1
        return self.rows[index]


class ManyRows(Rows):
    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        return [self.rows[i] for i in indices]


class ManyInOne(Rows):
    def __getitems__(self, indices: list[int]) -> Tensor:
        return self.rows[indices]


class Stacked(ManyRows):
    def stacked(self, rows: Tensor) -> Tensor:
        return self.rows[rows]

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        raise AssertionError("the slower way")


class OnlyIterable(IterableDataset):
    """torch gives it a __getitem__ that raises."""

    def __iter__(self) -> Iterator[Tensor]:
        return iter([torch.full((2, 3), 7.0)])

    def __len__(self) -> int:
        return 1


def test_a_function_is_taken_as_it_is() -> None:
    draw = make_draw(lambda step, generator: torch.full((2, 3), float(step)))
    assert (draw(5, generator()) == 5).all()


def test_rows_are_drawn_with_replacement_from_all_rows() -> None:
    rows = torch.arange(10.0)[:, None] * torch.tensor([1.0, 10.0])
    draw = make_draw(rows, 400)
    found = draw(0, generator(1))
    assert found.shape == (400, 2)
    assert sorted(set(found[:, 0].tolist())) == list(range(10))
    assert torch.equal(found[:, 1], 10 * found[:, 0])
    assert torch.equal(draw(7, generator(1)), found)  # a function of the generator alone
    assert not torch.equal(draw(0, generator(2)), found)
    assert len(make_draw(rows)(0, generator())) == 1024


def test_a_data_set_gives_what_its_tensor_gives() -> None:
    rows = torch.randn(10, 3, 2, generator=generator(3))
    expected = make_draw(rows, 6)(0, generator(1)).flatten(0, -2)
    one, many = Rows(rows), ManyRows(rows)
    assert torch.equal(make_draw(one, 6)(0, generator(1)), expected)
    assert torch.equal(make_draw(many, 6)(0, generator(1)), expected)
    assert (one.single, many.single) == (6, 0)
    whole = make_draw(ManyInOne(rows), 6)(0, generator(1))
    assert torch.equal(whole.flatten(0, -2), expected)
    stacked = make_draw(Stacked(rows), 6)(0, generator(1))
    assert torch.equal(stacked.flatten(0, -2), expected)


@pytest.mark.parametrize("given", [list, torch.tensor])
def test_a_subset_gives_what_its_tensor_gives(given: Any) -> None:
    rows = torch.randn(10, 3, generator=generator(3))
    some = [9, 2, 2, 7, 4]
    inner = Subset(Stacked(rows), given([0, 8, 2, 3, 9, 5, 6, 7, 4, 1]))  # type: ignore[arg-type, var-annotated]
    nested = make_draw(Subset(inner, given(some)), 20)(0, generator(1))
    inside = torch.tensor([0, 8, 2, 3, 9, 5, 6, 7, 4, 1])[some]
    assert torch.equal(nested, make_draw(rows[inside], 20)(0, generator(1)))
    listed = make_draw(Subset(ManyRows(rows), some), 20)(0, generator(1))  # type: ignore[arg-type]
    assert torch.equal(listed, make_draw(rows[some], 20)(0, generator(1)))


class Doubled(Subset[Tensor]):
    """A subset that does more than choose."""

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        return [2 * row for row in super().__getitems__(indices)]


def test_a_subset_of_another_kind_reads_for_itself() -> None:
    rows = torch.randn(10, 3, generator=generator(3))
    found = make_draw(Doubled(ManyRows(rows), range(10)), 8)(0, generator(1))  # type: ignore[arg-type]
    assert torch.equal(found, 2 * make_draw(rows, 8)(0, generator(1)))


def test_rows_may_have_different_numbers_of_samples() -> None:
    rows = [torch.full((1 + i, 2), float(i)) for i in range(3)] + [torch.full((2,), 3.0)]
    found = make_draw(rows, 40)(0, generator(1))
    at = torch.randint(4, (40,), generator=generator(1)).tolist()
    assert found[:, 0].tolist() == [float(i) for i in at for _ in range([1, 2, 3, 1][i])]


class Batches:
    """Can be read from its beginning again."""

    def __iter__(self) -> Iterator[Tensor]:
        return (torch.full((2, 3), float(i)) for i in range(3))


def test_an_iterable_is_read_in_order_and_again() -> None:
    draw = make_draw(Batches())
    assert [float(draw(i, generator())[0, 0]) for i in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    once = make_draw(iter(Batches()))
    assert [float(once(i, generator())[0, 0]) for i in range(3)] == [0, 1, 2]
    with pytest.raises(InputError, match="It ended at step 3"):
        once(3, generator())
    with pytest.raises(InputError, match="ended at step 0"):
        make_draw(iter(()))(0, generator())
    assert is_stream(Batches()) and is_stream(iter(Batches()))
    assert is_stream(OnlyIterable()) and (make_draw(OnlyIterable())(0, generator()) == 7).all()
    loader = DataLoader(torch.arange(6.0)[:, None], batch_size=2)  # type: ignore[arg-type]
    draw = make_draw(loader)
    assert [draw(i, generator()).flatten().tolist() for i in (0, 1)] == [[0, 1], [2, 3]]
    assert not any(map(is_stream, (torch.ones(2, 3), Rows(torch.ones(2, 3)), lambda s, g: s)))


def test_batches_as_an_sae_reads_them() -> None:
    batch = torch.randn(2, 3, 4, generator=generator(), requires_grad=True)
    found = samples(batch, 4, torch.device("cpu"), torch.float64)
    assert found.shape == (6, 4) and found.dtype == torch.float64 and not found.requires_grad
    assert torch.equal(found[4].float(), batch[1, 1])


@pytest.mark.parametrize(
    "batch",
    [torch.ones(3), torch.ones(2, 3), torch.ones(0, 4), torch.ones(2, 4).int(), {"hook": 1}],
)
def test_other_batches_are_refused(batch: object) -> None:
    with pytest.raises(InputError, match=r"must be a floating tensor \[..., 4\]"):
        samples(batch, 4, torch.device("cpu"), torch.float32)


def test_other_sources_are_refused() -> None:
    with pytest.raises(InputError, match="Received int"):
        make_draw(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Received dict"):
        make_draw({0: torch.ones(2, 3)})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="batch_size is for tensors and data sets"):
        make_draw(lambda step, generator: torch.ones(2, 3), 4)
    with pytest.raises(InputError, match="batch_size must be a whole number"):
        make_draw(torch.ones(2, 3), 0)
    with pytest.raises(InputError, match=r"\[row, ..., d_in\]. Received \(3,\)"):
        make_draw(torch.ones(3))
    with pytest.raises(InputError, match="must have rows"):
        make_draw(Rows(torch.ones(0, 2)))
    with pytest.raises(InputError, match=r"must be tensors .* Received dict"):
        make_draw([{"hook": torch.ones(2)}], 2)(0, generator())  # type: ignore[list-item]
    with pytest.raises(InputError, match=r"must be tensors .* Received tuple"):
        make_draw(TensorDataset(torch.ones(4, 2)), 2)(0, generator())
    with pytest.raises(
        InputError, match=r"must be tensors \[..., d_in\]\. Received shape \((2|3),\)"
    ):
        make_draw([torch.ones(2), torch.ones(3)], 20)(0, generator())
