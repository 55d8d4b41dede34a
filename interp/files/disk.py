"""What a disk can refuse, said clearly; and waiting until it has what was written."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from interp.errors import InterpError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskError(InterpError, OSError):
    """A file could not be written; the message says why, and how to go on."""


@contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """Turn what the system raises where files of a dataset are written into `DiskError`."""
    try:
        yield
    except InterpError:
        raise
    except (OSError, SafetensorError) as fault:
        number = _number(fault)
        if number is None:
            raise
        where = getattr(fault, "filename", None) or out
        what = f"{where}: {os.strerror(number)}"
        if number in _FULL:
            what = f"no space left for {what}"
        raise DiskError(
            f"{what}. Finished shards are kept: run the same command again "
            f"{'with more room' if number in _FULL else 'when this is mended'}."
        ) from fault


def _number(fault: Exception) -> int | None:
    """The system's number of an error; safetensors gives it as text."""
    if isinstance(fault, OSError):
        return fault.errno
    found = re.search(r"os error (\d+)", str(fault))
    return None if found is None else int(found[1])


def sync_directory(directory: Path) -> None:
    """Wait until the disk has the names in a directory, not only the files."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
