"""`journal.jsonl`: which shards are finished, one line each, written by the driver alone."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

from interp.errors import InputError
from interp.files import parse_json
from interp.files.disk import disk_errors
from interp.harvest.shard_files import Receipt

JOURNAL = "journal.jsonl"


def read_journal(out: Path, n_shards: int) -> dict[int, Receipt]:
    """Shard → its receipt, of the finished shards, in the order of their numbers.

    The last line of a shard counts. A last line that is not whole, because whoever wrote it was
    stopped, is no line.

    Raises:
        InputError: for any other line that is not a receipt of one of these shards.
    """
    found: dict[int, Receipt] = {}
    for number, line in enumerate(_whole_lines(out / JOURNAL), 1):
        try:
            receipt = Receipt.from_dict(parse_json(line))
            if receipt.shard >= n_shards:
                raise InputError(f"there are {n_shards} shards. Received shard {receipt.shard}.")
        except InputError as fault:
            raise InputError(f"{out / JOURNAL}, line {number}, is damaged: {fault}") from fault
        found[receipt.shard] = receipt
    return dict(sorted(found.items()))


def append_to_journal(out: Path, receipt: Receipt) -> None:
    """Add a finished shard; it is finished once this returns.

    Raises:
        DiskError: if the line cannot be written.
    """
    line = json.dumps(receipt.to_dict()).encode() + b"\n"
    with disk_errors(out), (out / JOURNAL).open("ab", buffering=0) as file:
        end = file.tell()
        try:
            if file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)  # no half of a line that another one would be added to
            raise


def mend_journal(out: Path) -> None:
    """Cut off a last line that is not whole, before others are added; for the lock's holder."""
    path = out / JOURNAL
    if not path.exists():
        return
    whole = sum(len(line) + 1 for line in _whole_lines(path))
    if whole < path.stat().st_size:
        with disk_errors(out), path.open("rb+") as file:
            file.truncate(whole)
            os.fsync(file.fileno())


def _whole_lines(path: Path) -> list[bytes]:
    if not path.exists():
        return []
    if not path.is_file():  # a pipe's reader would wait for ever
        raise InputError(f"{path} must be a file.")
    return path.read_bytes().split(b"\n")[:-1]
