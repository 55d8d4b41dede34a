"""A shard's files: whole or not there, and known again by their checksums."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from interp.files.disk import DiskError
from interp.harvest import shard_files
from interp.harvest.shard_files import INDEX_COLUMNS, SHARDS, Receipt, damage, write_shard

_HOOKS = {"a": torch.arange(12.0).view(4, 3), "b": torch.arange(4).view(4, 1, 1)}
_INDEX = {name: torch.arange(4) + 10 * i for i, name in enumerate(INDEX_COLUMNS)}


def _write(out: Path, **changes: Any) -> Receipt:
    (out / SHARDS).mkdir(exist_ok=True)
    arguments: dict[str, Any] = {
        "shard": 12, "hooks": _HOOKS, "index": _INDEX, "statistics": None, "made_on": {"x": 1},
    }  # fmt: skip
    return write_shard(out, **{**arguments, **changes})


def _names(out: Path) -> list[str]:
    return sorted(os.listdir(out / SHARDS))


def test_files_hold_the_rows_and_the_receipt_says_so(tmp_path: Path) -> None:
    receipt = _write(tmp_path, statistics={"n": torch.tensor(4)})
    assert _names(tmp_path) == [
        "00012.rows.parquet", "00012.safetensors", "00012.statistics.safetensors",
    ]  # fmt: skip
    found = load_file(tmp_path / "shards/00012.safetensors")
    assert found.keys() == _HOOKS.keys()
    assert all(torch.equal(found[name], _HOOKS[name]) for name in found)
    table = pd.read_parquet(tmp_path / "shards/00012.rows.parquet")
    assert list(table) == list(INDEX_COLUMNS) and set(table.dtypes.astype(str)) == {"int64"}
    assert all(table[name].tolist() == column.tolist() for name, column in _INDEX.items())
    assert receipt.rows == 4 and receipt.shard == 12
    for entry in receipt.files.values():
        content = (tmp_path / entry.name).read_bytes()
        assert (entry.bytes, entry.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert (tmp_path / entry.name).stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert Receipt.from_dict(receipt.to_dict()) == receipt


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_same_rows_are_the_same_bytes(tmp_path: Path) -> None:
    first = _write(tmp_path)
    assert _write(tmp_path).files == first.files


def test_a_shard_may_have_no_rows(tmp_path: Path) -> None:
    none = {name: x[:0] for name, x in _HOOKS.items()}
    receipt = _write(tmp_path, hooks=none, index={name: x[:0] for name, x in _INDEX.items()})
    assert receipt.rows == 0 and damage(tmp_path, receipt, checksums=True) is None
    assert load_file(tmp_path / "shards/00012.safetensors")["a"].shape == (0, 3)


def test_damage_is_found(tmp_path: Path) -> None:
    receipt = _write(tmp_path)
    assert damage(tmp_path, receipt, checksums=True) is None
    path = tmp_path / "shards/00012.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert damage(tmp_path, receipt, checksums=False) is None
    assert "another checksum" in str(damage(tmp_path, receipt, checksums=True))
    path.write_bytes(content[:-1])
    assert "bytes instead of" in str(damage(tmp_path, receipt, checksums=False))
    other = tmp_path / "other"
    path.rename(other)
    path.symlink_to(other)
    assert "is not there" in str(damage(tmp_path, receipt, checksums=False))
    path.unlink()
    assert "is not there" in str(damage(tmp_path, receipt, checksums=False))


_FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
# What safetensors 0.8 raises.
_FULL_IN_RUST = SafetensorError(
    "Error while serializing: I/O error: No space left on device (os error 28)"
)


@pytest.mark.parametrize("fault", [_FULL, _FULL_IN_RUST])
def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    before = _write(tmp_path)

    def full(tensors: Any, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise fault

    monkeypatch.setattr(shard_files, "save_file", full)
    with pytest.raises(DiskError, match=r"no space left for .*run the same command again"):
        _write(tmp_path, shard=13)
    assert _names(tmp_path) == ["00012.rows.parquet", "00012.safetensors"]
    with pytest.raises(DiskError):
        _write(tmp_path)
    assert damage(tmp_path, before, checksums=True) is None  # what was there still is


def test_a_limit_of_the_system_is_said(tmp_path: Path) -> None:
    """The real thing: writing beyond a limit for files, as beyond a quota."""
    resource = pytest.importorskip("resource", reason="needs a POSIX system")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(DiskError, match="no space left"):
            _write(tmp_path, hooks={"a": torch.zeros(4, 4096)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert _names(tmp_path) == []


def test_other_faults_of_a_disk_are_told_and_other_faults_are_not_hidden(tmp_path: Path) -> None:
    def refuse() -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "shards")

    def stumble() -> None:
        raise ZeroDivisionError

    with pytest.raises(DiskError, match="shards: Read-only file system"):
        _write(tmp_path, before_rename=refuse)
    with pytest.raises(ZeroDivisionError):
        _write(tmp_path, before_rename=stumble)
    assert _names(tmp_path) == []
