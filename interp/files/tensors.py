"""A safetensors file: what it says it holds, known before any of it is read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from torch import Tensor

from interp.errors import InputError
from interp.files.wording import short

_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outline:
    """What the header says of a tensor.

    Attributes:
        shape: Its sizes. The file has as many bytes as they and the dtype ask for.
        dtype: Torch's; None for one that interp does not read, such as fp8.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype | None


class TensorFile(Mapping[str, Tensor]):
    """Name → tensor of a safetensors file, read when looked up.

    The file is opened anew for each tensor, so that the pages of those already read can leave
    memory.

    Args:
        path: The file.

    Attributes:
        path: The file.
        outlines: What its header says, by name.

    Raises:
        InputError: If it does not exist or is damaged; the message names it.
    """

    def __init__(self, path: Path) -> None:
        if not os.path.isfile(path):
            raise InputError(f"{path} does not exist.")
        self.path = path
        try:
            with safe_open(path, framework="pt") as file:
                self.outlines = {name: _outline(file, name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as fault:
            raise self._damaged(fault) from fault

    def __getitem__(self, name: str) -> Shaped[Tensor, "..."]:
        """A tensor, on the CPU.

        Raises:
            KeyError: If there is none of that name.
            InputError: If it cannot be read, or has a dtype that interp does not read.
        """
        if self.outlines[name].dtype is None:
            raise InputError(f"{self.path} has {short(name, 100)} in a dtype that is not read.")
        try:
            with safe_open(self.path, framework="pt") as file:
                found: Tensor = file.get_tensor(name)
        except (SafetensorError, OSError, RuntimeError) as fault:
            raise self._damaged(fault) from fault
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.outlines)

    def __len__(self) -> int:
        return len(self.outlines)

    def _damaged(self, fault: Exception) -> InputError:
        return InputError(f"{self.path} cannot be read; it is damaged: {short(fault)}")


def _outline(file: safe_open, name: str) -> Outline:
    part = file.get_slice(name)
    return Outline(tuple(part.get_shape()), _DTYPES.get(part.get_dtype()))


def require_finite(name: str, weight: Shaped[Tensor, "..."], where: object) -> None:
    """Check that a tensor holds no NaN and no infinity.

    It takes one look at the smallest and the largest number, at the speed of memory.

    Raises:
        InputError: If it does; the message names it and says how many.
    """
    if not weight.is_floating_point() or not weight.numel():
        return
    low, high = torch.aminmax(weight)  # a NaN is both
    if bool(low.isfinite()) and bool(high.isfinite()):
        return
    count = weight.numel() - int(weight.isfinite().sum())
    raise InputError(
        f"weights must be finite numbers. {where} has {count} NaN or infinite of "
        f"{weight.numel()} in {short(name, 100)} (load_model has allow_nonfinite=True for "
        "models that diverged)."
    )
