"""One driver at a time writes a dataset."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from interp.errors import InterpError
from interp.files.disk import disk_errors

LOCK = ".lock"


class LockedError(InterpError):
    """Another process writes this dataset."""


@contextmanager
def locked(out: Path) -> Iterator[str]:
    """Hold the dataset's lock; the system gives it back when the process ends, however it does.

    Yields:
        A token that stands in the lock file until somebody else holds the lock, so that workers
        whose driver is gone notice (`require_held`).

    Raises:
        LockedError: if another driver holds it.
        DiskError: if the lock's file cannot be opened, or is a link.
    """
    with disk_errors(out):
        # Not what a link leads to: the file is written over.
        handle = os.open(out / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 200).decode(errors="replace").strip()
            raise LockedError(
                f"another process writes {out} ({holder or 'it does not say which'}). "
                "Wait until it is done, or stop it."
            ) from None
        token = f"process {os.getpid()}, run {uuid.uuid4().hex}"
        os.truncate(handle, 0)
        os.pwrite(handle, token.encode(), 0)
        yield token
    finally:
        os.close(handle)


def require_held(out: Path, token: str) -> None:
    """Check that the driver with this token still is the last that held the lock.

    Raises:
        LockedError: if another one has taken it since.
    """
    found = (out / LOCK).read_bytes()
    if found != token.encode():
        raise LockedError(f"another process writes {out} now: this one's work is dropped.")
