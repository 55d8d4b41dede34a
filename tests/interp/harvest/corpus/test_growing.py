from __future__ import annotations

import hashlib
from itertools import chain
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.harvest.corpus.growing import GrowingArray


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 65535), max_size=5), max_size=12))
def test_pieces_make_one_array(tmp_path_factory, pieces: list[list[int]]) -> None:  # type: ignore[no-untyped-def]
    path: Path = tmp_path_factory.mktemp("array") / "x.npy"
    with GrowingArray(path, np.dtype(np.uint16)) as array:
        for piece in pieces:
            array.append(np.array(piece, dtype=np.int64))
    expected = np.array(list(chain(*pieces)), dtype="<u2")
    found = np.load(path)
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)
    assert array.length == len(expected)
    assert array.sha256() == hashlib.sha256(expected.tobytes()).hexdigest()


def test_the_header_holds_any_length(tmp_path: Path) -> None:
    with GrowingArray(tmp_path / "x.npy", np.dtype(np.int64)) as array:
        begin = (tmp_path / "x.npy").stat().st_size
        array.append(np.arange(12_345))
    found = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert np.array_equal(found, np.arange(12_345))
    assert begin in (0, found.offset)  # not yet flushed, or the header alone
