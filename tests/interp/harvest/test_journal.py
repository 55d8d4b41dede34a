"""A journal that was cut off anywhere, and what is read of it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from interp.errors import InputError
from interp.files.disk import DiskError
from interp.harvest import journal
from interp.harvest.journal import JOURNAL, append_to_journal, mend_journal, read_journal
from interp.harvest.shard_files import FileEntry, Receipt, shard_file


def _receipt(shard: int, rows: int = 5) -> Receipt:
    files = {kind: FileEntry(shard_file(shard, kind), 10, "ab" * 32) for kind in ("data", "rows")}
    return Receipt(shard, rows, files, {"device": "cpu"})  # type: ignore[arg-type]


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    assert read_journal(tmp_path, 9) == {}
    for receipt in (_receipt(4), _receipt(0), _receipt(4, rows=7)):
        append_to_journal(tmp_path, receipt)
    assert list(read_journal(tmp_path, 9).items()) == [(0, _receipt(0)), (4, _receipt(4, 7))]


def test_a_journal_cut_off_anywhere_has_its_whole_lines(tmp_path: Path) -> None:
    for shard in range(3):
        append_to_journal(tmp_path, _receipt(shard))
    path = tmp_path / JOURNAL
    whole = path.read_bytes()
    for length in {*range(0, len(whole), 7), len(whole) - 1, len(whole)}:
        path.write_bytes(whole[:length])
        n_lines = whole[:length].count(b"\n")
        assert list(read_journal(tmp_path, 3)) == list(range(n_lines))
        if length % 5 == 0:  # and going on from there loses nothing and mixes nothing
            mend_journal(tmp_path)
            append_to_journal(tmp_path, _receipt(2))
            assert list(read_journal(tmp_path, 3)) == sorted({*range(n_lines), 2})


def test_zeros_that_a_power_cut_left_are_no_line(tmp_path: Path) -> None:
    append_to_journal(tmp_path, _receipt(0))
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b"\0" * 100)
    assert list(read_journal(tmp_path, 1)) == [0]


@pytest.mark.parametrize(
    "line",
    [
        "", "{", "[1]", "null", '{"shard": 0}', "[" * 10_000, '{"shard": NaN}',
        json.dumps({**_receipt(0).to_dict(), "rows": -1}),
        json.dumps({**_receipt(0).to_dict(), "rows": True}),
        json.dumps({**_receipt(9).to_dict()}),
        json.dumps(_receipt(0).to_dict()).replace("shards/", "../shards/"),
        json.dumps(_receipt(0).to_dict()).replace("abab", "ABAB"),
        json.dumps(_receipt(0).to_dict()).replace('"rows": {', '"columns": {'),
        json.dumps(_receipt(0).to_dict()).replace("00000", "00001"),
    ],
)  # fmt: skip
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    append_to_journal(tmp_path, _receipt(1))
    with (tmp_path / JOURNAL).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match="line 2"):
        read_journal(tmp_path, 3)


def test_no_half_of_a_line_stays_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_to_journal(tmp_path, _receipt(0))
    before = (tmp_path / JOURNAL).read_bytes()

    def full(handle: int) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(journal.os, "fsync", full)
    with pytest.raises(DiskError, match="no space left"):
        append_to_journal(tmp_path, _receipt(1))
    assert (tmp_path / JOURNAL).read_bytes() == before
