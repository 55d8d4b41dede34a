"""Where a sparse autoencoder's inputs come from: a function, a tensor, a data set or a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeGuard, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import IterableDataset, Subset

from interp.errors import InputError, require, require_whole

BATCH_SIZE = 1024

Draw = Callable[[int, torch.Generator], Float[Tensor, "... d_in"]]
"""`draw(step, generator)` gives a step's inputs; it is called without gradients. The generator is a
CPU generator, fresh at every step, so what is drawn is a function of the seed and the step alone. A
step that resamples dead units draws again, with the same step and the generator, which has gone
on."""


@runtime_checkable
class Rows(Protocol):
    """A data set by index: `rows[i]` is a tensor `[..., d_in]`, of any number of samples.

    A method `__getitems__(indices)` that gives many at once, as in torch's data sets, is used where
    there is one: it gives a list of rows or all of them in one tensor. Faster still is
    `StackedRows`.
    """

    def __len__(self) -> int:
        """How many rows there are."""
        ...

    def __getitem__(self, index: int, /) -> Float[Tensor, "... d_in"]:
        """One row."""
        ...


@runtime_checkable
class StackedRows(Rows, Protocol):
    """A data set that reads many rows at once into one tensor, as `ActivationDataset` does.

    A `Subset` of torch, such as `random_split` gives, is read likewise.
    """

    def stacked(self, rows: Int[Tensor, "row"], /) -> Float[Tensor, "row ... d_in"]:
        """Rows, in the order asked for; some may be asked for twice."""
        ...


Source = Draw | Float[Tensor, "row ... d_in"] | Rows | Iterable[Float[Tensor, "... d_in"]]
"""Inputs of an SAE.

A function of the step and a generator; a tensor `[row, ..., d_in]` or a data set (a list is one),
from which rows are drawn with replacement; or an iterable of batches, such as torch's `DataLoader`,
which is read in order, from its beginning again when it ends. All axes but the last are samples.
"""


def make_draw(source: Source, batch_size: int | None = None) -> Draw:
    """A source as a function of the step and a generator.

    Args:
        source: See `Source`.
        batch_size: Rows of a batch that is drawn from a tensor or a data set. None: 1,024. Not for
            other sources, which make their own batches.

    Raises:
        InputError: for something else, an empty tensor or data set, or a `batch_size` that has no
            use; and by the function, when a stream ends that cannot begin again.
    """
    if isinstance(source, Tensor):
        return _of_tensor(source, _checked_size(batch_size))
    if _is_rows(source):
        return _of_rows(source, _checked_size(batch_size))
    require(
        batch_size is None,
        f"batch_size is for tensors and data sets, to draw rows from. Received {batch_size!r}",
    )
    if callable(source):
        return source
    if isinstance(source, Iterable) and not isinstance(source, Mapping):
        return _of_stream(source)
    raise InputError(
        "a source must be a function of the step and a generator, a tensor, a data set or an "
        f"iterable of batches. Received {_name(source)}."
    )


def is_stream(source: Source) -> bool:
    """Whether a source can only be read in order."""
    return not isinstance(source, Tensor) and not _is_rows(source) and not callable(source)


def batch_size_of(source: Source, batch_size: int | None = None) -> int | None:
    """How many rows a step draws, filled in; None for a source that makes its own batches."""
    draws = isinstance(source, Tensor) or _is_rows(source)
    return _checked_size(batch_size) if draws else None


def _is_rows(source: object) -> TypeGuard[Rows]:
    # An iterable data set has __getitem__ as well, which raises; a mapping's is not by index.
    return isinstance(source, Rows) and not isinstance(source, IterableDataset | Mapping)


def samples(
    batch: Any, d_in: int, device: torch.device, dtype: torch.dtype
) -> Float[Tensor, "batch d_in"]:
    """A batch as an SAE reads it: moved to its device and dtype, all axes but the last as one.

    Raises:
        InputError: if it is not a tensor `[..., d_in]` with at least one sample.
    """
    require(
        isinstance(batch, Tensor)
        and batch.ndim >= 2
        and batch.shape[-1] == d_in
        and batch.numel() > 0
        and batch.is_floating_point(),
        f"a batch must be a floating tensor [..., {d_in}] with at least one sample. Received "
        + (f"{batch.dtype} {tuple(batch.shape)}" if isinstance(batch, Tensor) else _name(batch)),
    )
    found: Tensor = batch.detach().flatten(0, -2)
    # In this order, a narrower dtype travels as it is.
    return found.to(device, non_blocking=True).to(dtype)


def _name(value: object) -> str:
    return type(value).__name__


def _checked_size(batch_size: int | None) -> int:
    if batch_size is None:
        return BATCH_SIZE
    require_whole("batch_size", batch_size, 1)
    return batch_size


def _of_tensor(rows: Tensor, batch_size: int) -> Draw:
    require(
        rows.ndim >= 2 and len(rows) > 0,
        f"a tensor to draw rows from must be [row, ..., d_in]. Received {tuple(rows.shape)}",
    )

    def draw(step: int, generator: torch.Generator) -> Tensor:
        at = torch.randint(len(rows), (batch_size,), generator=generator)
        return rows[at.to(rows.device)]

    return draw


def _of_rows(rows: Rows, batch_size: int) -> Draw:
    require(len(rows) > 0, "a data set must have rows. This one has none")
    stacked = _stacked(rows)
    if stacked is not None:
        n = len(rows)
        return lambda step, generator: stacked(torch.randint(n, (batch_size,), generator=generator))
    many: Callable[[list[int]], Sequence[Tensor] | Tensor] | None
    many = getattr(rows, "__getitems__", None)

    def draw(step: int, generator: torch.Generator) -> Tensor:
        at = torch.randint(len(rows), (batch_size,), generator=generator).tolist()
        found = many(at) if many is not None else [rows[i] for i in at]
        if isinstance(found, Tensor):
            return found
        if _are_vectors(found):
            return torch.stack(list(found))
        for row in found:
            require(
                isinstance(row, Tensor) and row.ndim > 0 and row.shape[-1:] == found[0].shape[-1:],
                "rows of a data set must be tensors [..., d_in]. Received "
                + (f"shape {tuple(row.shape)}" if isinstance(row, Tensor) else _name(row)),
            )
        return torch.cat([row.flatten(0, -2) if row.ndim > 1 else row[None] for row in found])

    return draw


def _stacked(rows: object) -> Callable[[Tensor], Tensor] | None:
    """How many rows are read at once into one tensor, also of a subset; None: not at all."""
    if isinstance(rows, StackedRows):
        return rows.stacked
    if type(rows) is Subset:  # others may do more than choose
        of_all, chosen = _stacked(rows.dataset), torch.as_tensor(rows.indices)
        if of_all is not None:
            return lambda at: of_all(chosen[at])
    return None


def _are_vectors(rows: Sequence[Tensor]) -> bool:
    """Whether rows are as most are: one sample each. Seen in one sweep, because there are many."""
    return {type(row) for row in rows} == {Tensor} and (
        len({row.shape for row in rows}) == 1 and rows[0].ndim == 1
    )


def _of_stream(stream: Iterable[Tensor]) -> Draw:
    # Begun by the first step, because to begin some streams draws from torch's global state.
    batches: Iterator[Tensor] = iter(())

    def draw(step: int, generator: torch.Generator) -> Tensor:
        nonlocal batches
        found = next(batches, None)
        if found is None:
            batches = iter(stream)  # of an iterator: itself, and used up
            found = next(batches, None)
        if found is None:
            raise InputError(f"a stream must have a batch for every step. It ended at step {step}.")
        return found

    return draw
