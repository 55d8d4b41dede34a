"""What display functions are given: a tensor, a NumPy array, or plain numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Num
from torch import Tensor

from interp.errors import InputError


def as_numbers(name: str, value: object) -> Num[Tensor, "..."]:
    """A tensor of what was given; a tensor as it is.

    Raises:
        InputError: for anything that is no array of real numbers.
    """
    found = value if isinstance(value, Tensor) else _tensor_of(value)
    if found is None or found.is_complex():
        what = type(value).__name__
        raise InputError(f"{name} must be a tensor or array of real numbers. Received {what}.")
    return found


def _tensor_of(value: Any) -> Tensor | None:
    # NumPy reads lists of arrays and what runs backwards, torch lists of its own numbers.
    for read in (lambda given: torch.as_tensor(np.array(given, order="C")), torch.as_tensor):
        try:
            return read(value)
        except (RuntimeError, TypeError, ValueError):
            continue
    return None
