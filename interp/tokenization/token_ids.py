"""Token ids, as people write them: a number, a list, a NumPy array or a tensor."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from interp.errors import InputError

WHOLE_DTYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)  # as files of tokens hold them


def token_ids(given: object, n: int, device: torch.device | None = None) -> Int[Tensor, "..."]:
    """These ids as a tensor of int64.

    Args:
        given: A whole number or an array of them in any form.
        n: How many tokens there are. Nobody looks whether ids that lie on a GPU are below.
        device: Where to put them. None: where they are.

    Raises:
        InputError: for anything but whole numbers, and for ids outside 0 … n - 1.
    """
    try:
        ids = torch.as_tensor(given)
    except (OverflowError, RuntimeError, TypeError, ValueError):
        ids = None
    if ids is None or (ids.dtype not in WHOLE_DTYPES + _UNSIGNED and ids.numel()):
        found = type(given).__name__ if ids is None else f"{ids.dtype} {tuple(ids.shape)}"
        raise InputError(f"tokens must be whole numbers. Received {found}.")
    ids = ids.long()
    if ids.numel() and ids.is_cpu:
        low, high = ids.aminmax()
        if low < 0 or high >= n:
            raise InputError(f"tokens must lie in 0 … {n - 1}. Received {low} … {high}.")
    return ids.to(device)
