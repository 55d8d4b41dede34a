"""A file that `torch.save` wrote, read without running any code in it."""

from __future__ import annotations

import mmap
import os
import re
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
    if not os.path.isfile(path):
        raise InputError(f"{path} does not exist.")
    try:
        with path.open("rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"  # torch's own rule
        if zipped:
            require_stored(path)
        elif not legacy:
            raise InputError("it is no archive")
        _require_no_allocation(path)
        # weights_only: torch's restricted unpickler makes tensors and plain values, nothing else.
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
        _require_backed(found, path.stat().st_size)
    except Exception as fault:  # damaged bytes can make an unpickler raise anything
        raise InputError(f"{path} cannot be read: {short(_told(fault))}") from fault
    return found


def _told(fault: Exception) -> str:
    """What went wrong, without torch's advice to read the file with `weights_only=False`."""
    text = str(fault).strip()
    if text.startswith("Weights only load failed"):
        asked = re.search(r"GLOBAL (\S+)", text)
        if asked is None:
            return "it is no file of tensors and plain values, or is damaged"
        return f"it asks for {asked[1]}, which is no tensor or plain value"
    return next(iter(text.splitlines()), type(fault).__name__)


def _require_no_allocation(path: Path) -> None:
    """Refuse `bytearray`: torch's unpickler fills as many bytes as a number says."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
        if held.find(b"\nbytearray\n") >= 0:
            raise InputError("it asks for a bytearray, which is no tensor or plain value")


def require_stored(path: Path) -> None:
    """Check that an archive does not unfold: torch and `numpy.savez` store without compression.

    Raises:
        InputError: If an entry is packed, or the entries claim more bytes than there are.
        zipfile.BadZipFile: If it is no archive.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    claimed = sum(entry.file_size for entry in entries)
    if packed or claimed > path.stat().st_size:
        raise InputError(
            f"its entries must be stored as they are. They claim {claimed} bytes in a file of "
            f"{path.stat().st_size}"
        )


def _require_backed(found: Any, n_bytes: int) -> None:
    """A pickle can stretch a few bytes to a tensor of any shape, which the next copy would fill."""
    waiting, total = [found], 0
    seen, storages = set[int](), set[tuple[int, int]]()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            wanted = value.numel() * value.element_size()
            if value.layout != torch.strided or value.device.type != "cpu":
                raise InputError(f"its tensors must be dense. One is {value.layout}")
            storage = value.untyped_storage()
            if (place := (storage.data_ptr(), storage.nbytes())) not in storages:
                storages.add(place)
                total += storage.nbytes()
            if wanted > storage.nbytes() or total > n_bytes:
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
