"""What display functions are given: a tensor, a NumPy array, or plain numbers."""

from __future__ import annotations

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
    if isinstance(value, Tensor):
        found = value
    else:
        try:
            found = torch.as_tensor(np.asarray(value))
        except (RuntimeError, TypeError, ValueError):
            found = torch.empty(0, dtype=torch.complex64)
    if found.is_complex():
        what = type(value).__name__
        raise InputError(f"{name} must be a tensor or array of real numbers. Received {what}.")
    return found
