"""A file that `torch.save` wrote, read without running any code in it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp.errors import InputError
from interp.files.wording import short


def load_plain(path: Path, *, legacy: bool = False) -> Any:
    """The tensors and plain values in a file, on the CPU, mapped into memory where they can be.

    Args:
        path: The file.
        legacy: Also read the format that torch wrote before 1.6, which is no archive.

    Raises:
        InputError: If it does not exist, is damaged, holds anything that only code could make, or
            says that it holds more than it has bytes; the message names it.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist.")
    try:
        zipped = zipfile.is_zipfile(path)
        if zipped:
            _require_uncompressed(path)
        elif not legacy:
            raise InputError("it is no archive")
        # weights_only: torch's restricted unpickler makes tensors and plain values, nothing else.
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
        _require_backed(found)
    except Exception as fault:  # damaged bytes can make an unpickler raise anything
        first = next(iter(str(fault).strip().splitlines()), type(fault).__name__)
        raise InputError(f"{path} cannot be read: {short(first)}") from fault
    return found


def _require_uncompressed(path: Path) -> None:
    """torch stores without compression, so an archive that unfolds is not one of its."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    claimed = sum(entry.file_size for entry in entries)
    if packed or claimed > path.stat().st_size:
        raise InputError(
            f"its entries must be stored as they are. They claim {claimed} bytes in a file of "
            f"{path.stat().st_size}"
        )


def _require_backed(found: Any) -> None:
    """A pickle can stretch a few bytes to a tensor of any shape, which the next copy would fill."""
    waiting, seen = [found], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            wanted = value.numel() * value.element_size()
            if value.layout != torch.strided or value.device.type != "cpu":
                raise InputError(f"its tensors must be dense. One is {value.layout}")
            if wanted > value.untyped_storage().nbytes():
                raise InputError(f"a tensor claims {wanted} bytes that are not there")
            continue
        inner: Iterable[Any] = ()
        if isinstance(value, Mapping):
            inner = value.values()
        elif isinstance(value, list | tuple | set):
            inner = value
        else:
            continue
        if id(value) not in seen:  # a pickle can hold itself
            seen.add(id(value))
            waiting.extend(inner)
