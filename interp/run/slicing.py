"""Choosing part of one axis: an index, a range, or a list of places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from interp.errors import InputError

SliceInput: TypeAlias = "SliceValue | Slice"
SliceValue: TypeAlias = (
    int | tuple[int | None, ...] | Sequence[int] | Tensor | np.ndarray | slice | None
)


class Slice:
    """A choice along one axis, kept until the axis is known.

    Args:
        input_slice: None: everything; an int: that place, the axis goes; a tuple: as in
            `slice(*tuple)`; a slice; a list, array or tensor of places.

    Raises:
        InputError: for anything else.
    """

    def __init__(
        self,
        input_slice: SliceValue = None,
    ) -> None:
        self.index: int | slice | Tensor
        if input_slice is None:
            self.index = slice(None)
        elif isinstance(input_slice, slice):
            self.index = input_slice
        elif isinstance(input_slice, bool):
            raise InputError(f"a slice must not be a bool. Received {input_slice!r}.")
        elif isinstance(input_slice, int | np.integer):
            self.index = int(input_slice)
        elif isinstance(input_slice, tuple):
            if not 1 <= len(input_slice) <= 3:
                raise InputError(f"a slice tuple has 1 to 3 parts. Received {input_slice!r}.")
            self.index = slice(*input_slice)
        elif isinstance(input_slice, list | np.ndarray | Tensor):
            try:
                places = torch.as_tensor(input_slice)
            except (RuntimeError, TypeError, ValueError):
                raise InputError(
                    f"a slice must hold a row of whole numbers. Received {input_slice!r:.80}."
                ) from None
            if places.ndim == 0:
                self.index = int(places)
            elif places.is_floating_point() or places.ndim != 1:
                raise InputError(f"a slice must hold a row of whole numbers. Received {places!r}.")
            else:
                self.index = places
        else:
            raise InputError(
                f"a slice must be None, an int, a tuple, a slice or a list of ints. "
                f"Received {input_slice!r}."
            )

    @classmethod
    def unwrap(cls, value: SliceInput) -> Slice:
        """A Slice from a Slice, also TransformerLens's, or from what makes one."""
        if type(value).__module__.startswith("transformer_lens."):
            value = getattr(value, "slice", value)
        return value if isinstance(value, Slice) else cls(value)

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return isinstance(self.index, slice) and self.index == slice(None)

    def apply(self, x: Shaped[Tensor, "..."], dim: int = 0) -> Shaped[Tensor, "..."]:
        """The chosen part of `x` along `dim`: a view unless places are listed.

        Raises:
            InputError: if an index lies outside the axis.
        """
        if self.is_everything:
            return x
        size = x.shape[dim]
        if isinstance(self.index, int) and not -size <= self.index < size:
            raise InputError(f"index {self.index} is outside an axis of length {size}.")
        if isinstance(self.index, Tensor):
            index = self.index.to(x.device)
            if index.dtype != torch.bool and index.numel():
                low, high = int(index.min()), int(index.max())
                if low < -size or high >= size:
                    raise InputError(f"places {low}…{high} are outside an axis of length {size}.")
        else:
            index = self.index  # type: ignore[assignment]
        if isinstance(index, slice) and (index.step or 1) < 0:
            raise InputError(f"a slice must not run backwards. Received {index}.")
        full: list[object] = [slice(None)] * x.ndim
        full[dim] = index
        return x[tuple(full)]  # type: ignore[index]

    def indices(self, length: int) -> list[int]:
        """The chosen places of an axis of that length."""
        chosen = self.apply(torch.arange(length))
        return [int(chosen)] if chosen.ndim == 0 else chosen.tolist()

    def __repr__(self) -> str:
        return f"Slice({self.index!r})"
