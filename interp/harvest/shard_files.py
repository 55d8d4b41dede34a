"""A shard's files: how they are named, written whole, and found to be whole again."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Int64, Shaped
from safetensors.torch import save_file
from torch import Tensor

from interp.errors import InputError, is_whole, require
from interp.files.atomic import replacing_file
from interp.files.disk import disk_errors, sync_directory

SHARDS = "shards"
FileKind = Literal["data", "rows", "statistics"]
_SUFFIXES: dict[FileKind, str] = {
    "data": ".safetensors",
    "rows": ".rows.parquet",
    "statistics": ".statistics.safetensors",
}
INDEX_COLUMNS = ("document", "document_position", "sequence", "position", "token")
"""Of `rows`: which document a row's token is of and its place there (-1: of none), which sequence
it was run in and its place there, and its id. All int64."""


def shard_file(shard: int, kind: FileKind) -> str:
    """A file's name inside the dataset: `(12, "data")` → `shards/00012.safetensors`."""
    return f"{SHARDS}/{shard:05d}{_SUFFIXES[kind]}"


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file as it was written.

    Attributes:
        name: Inside the dataset's directory.
        bytes: Its size.
        sha256: Of its contents, in hex.
    """

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is known of a finished shard.

    Attributes:
        shard: Its number.
        rows: How many rows it has.
        files: Its files by kind: `data`, `rows` and, where statistics were asked for, `statistics`.
        made_on: The machine and software that computed it: `interp.harvest.made_on`.
    """

    shard: int
    rows: int
    files: Mapping[FileKind, FileEntry]
    made_on: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        files = {
            kind: {"name": file.name, "bytes": file.bytes, "sha256": file.sha256}
            for kind, file in self.files.items()
        }
        return {
            "shard": self.shard,
            "rows": self.rows,
            "files": files,
            "made_on": dict(self.made_on),
        }

    @classmethod
    def from_dict(cls, found: object) -> Receipt:
        """What `to_dict` gave.

        Raises:
            InputError: for anything else, also for a file that is not called as `shard_file` says.
        """
        fits = (
            isinstance(found, dict)
            and set(found) == {"shard", "rows", "files", "made_on"}
            and is_whole(found["shard"], 0)
            and is_whole(found["rows"], 0)
            and isinstance(found["files"], dict)
            and isinstance(found["made_on"], dict)
        )
        if not fits:
            raise InputError(
                "a receipt must be an object with shard, rows, files and made_on. "
                f"Received {found!r:.200}."
            )
        assert isinstance(found, dict)
        files = found["files"]
        require(
            {"data", "rows"} <= set(files) <= set(_SUFFIXES),
            f"a shard must have the files data, rows and at most statistics. Received "
            f"{list(files)!r:.200}",
        )
        entries = {kind: _entry(found["shard"], kind, entry) for kind, entry in files.items()}
        return cls(found["shard"], found["rows"], entries, found["made_on"])


def _entry(shard: int, kind: FileKind, found: object) -> FileEntry:
    fits = (
        isinstance(found, dict)
        and set(found) == {"name", "bytes", "sha256"}
        and found["name"] == shard_file(shard, kind)
        and is_whole(found["bytes"], 0)
        and isinstance(found["sha256"], str)
        and re.fullmatch("[0-9a-f]{64}", found["sha256"]) is not None
    )
    if not fits:
        raise InputError(
            f"the {kind} file of shard {shard} must be named {shard_file(shard, kind)!r} and have "
            f"bytes and a sha256. Received {found!r:.200}."
        )
    assert isinstance(found, dict)
    return FileEntry(**found)


def write_shard(
    out: Path,
    shard: int,
    hooks: Mapping[str, Shaped[Tensor, "row ..."]],
    index: Mapping[str, Int64[Tensor, "row"]],
    statistics: Mapping[str, Shaped[Tensor, "..."]] | None,
    made_on: Mapping[str, Any],
    before_rename: Callable[[], None] = lambda: None,
) -> Receipt:
    """Write a shard's files, each under another name first, and wait until the disk has them.

    Files of the same names are replaced.

    Args:
        out: The dataset's directory.
        shard: The shard's number.
        hooks: Hook name → its rows `[row, ...]`, contiguous, in main memory.
        index: The columns `INDEX_COLUMNS`.
        statistics: What goes into the statistics file. None: there is none.
        made_on: For the receipt.
        before_rename: Called before each file takes its name; an error stops it.

    Raises:
        DiskError: if there is no space left or a file cannot be written; no half of one stays.
    """
    (n_rows,) = {len(column) for column in index.values()} | {len(x) for x in hooks.values()}
    files: dict[FileKind, FileEntry] = {}

    def finished(kind: FileKind, write: Callable[[Path], object]) -> None:
        name = shard_file(shard, kind)
        files[kind] = _write(out, name, write, before_rename)

    with disk_errors(out):
        finished("data", lambda path: save_file(dict(hooks), path))
        finished("rows", lambda path: _write_index(index, path))
        if statistics is not None:
            finished("statistics", lambda path: save_file(dict(statistics), path))
        sync_directory(out / SHARDS)
    return Receipt(shard, n_rows, files, made_on)


def _write(
    out: Path, name: str, write: Callable[[Path], object], before_rename: Callable[[], None]
) -> FileEntry:
    with replacing_file(out / name) as fresh:
        write(fresh)
        with fresh.open("rb+") as file:
            # safetensors makes its files readable for their owner alone.
            shutil.copymode(out / SHARDS, fresh)
            os.chmod(fresh, fresh.stat().st_mode & 0o666)
            os.fsync(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
        before_rename()
    return FileEntry(name, size, digest)


def _write_index(index: Mapping[str, Tensor], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: pa.array(index[name].numpy()) for name in INDEX_COLUMNS}
    pq.write_table(pa.table(columns), path, compression="zstd")


def damage(out: Path, receipt: Receipt, checksums: bool) -> str | None:
    """What is wrong with a finished shard's files; None: nothing that was looked at.

    Args:
        out: The dataset's directory.
        receipt: Of the shard.
        checksums: Read the files and compare their checksums; otherwise only whether they are
            there and their size.
    """
    for entry in receipt.files.values():
        path = out / entry.name
        if path.is_symlink() or not path.is_file():
            return f"{entry.name} is not there"
        size = path.stat().st_size
        if size != entry.bytes:
            return f"{entry.name} has {size:,} bytes instead of {entry.bytes:,}"
        if checksums:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != entry.sha256:
                    return f"{entry.name} has another checksum than when it was written"
    return None
