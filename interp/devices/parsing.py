"""Dtypes and devices by name."""

from __future__ import annotations

import torch

from interp.errors import InputError

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def dtype_name(dtype: torch.dtype) -> str:
    """`torch.float32` → `"float32"`."""
    return str(dtype).removeprefix("torch.")


def parse_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """The floating dtype of that name.

    Raises:
        InputError: if it is not one of float64, float32, bfloat16 and float16.
    """
    name = dtype_name(dtype) if isinstance(dtype, torch.dtype) else str(dtype)
    name = name.removeprefix("torch.")
    if name not in DTYPES:
        raise InputError(f"dtype must be one of {', '.join(DTYPES)}. Received {dtype!r:.80}.")
    return DTYPES[name]


def default_device() -> torch.device:
    """CUDA where there is one, the CPU otherwise."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def parse_device(device: torch.device | str | None) -> torch.device:
    """The device of that name; None: `default_device`.

    Raises:
        InputError: if torch knows no such device.
    """
    if device is None:
        return default_device()
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as fault:
        told = f"device must be one that torch knows. Received {device!r:.80}."
        raise InputError(told) from fault
    if found.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {str(device)!r} is not here: torch sees no CUDA device.")
    return found
