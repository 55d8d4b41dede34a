from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interp import InputError
from interp.harvest.corpus import TokenStore
from interp.harvest.corpus.batches import TokenBatch
from interp.harvest.corpus.layout import Layout
from interp.harvest.corpus.writing import StoreWriter


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    """Nine tokens in three sequences."""
    with StoreWriter(tmp_path, Layout(kind="packed", length=3), 31) as writer:
        tokens = np.arange(9)
        writer.append(TokenBatch("a.txt", [1, 2], np.array([4, 5]), tokens, 1.0))
        writer.finish({}, shorten=False)
    return TokenStore.open(tmp_path)


def test_some_sequences_are_read(store: TokenStore) -> None:
    block = store.read(1, 3)
    assert block.tokens.tolist() == [[3, 4, 5], [6, 7, 8]]
    assert block.document.tolist() == [[0, 1, 1], [1, 1, 1]]
    assert block.document_position.tolist() == [[3, 0, 1], [2, 3, 4]]
    assert block.real is None
    assert block.tokens.dtype == block.document.dtype == block.document_position.dtype
    assert str(block.tokens.dtype) == "torch.int64"


def test_what_is_read_is_the_callers_own(store: TokenStore) -> None:
    store.read(0, 1).tokens.zero_()
    assert store.read(0, 1).tokens.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(("start", "stop"), [(-1, 1), (0, 4), (1, 1), (2, 1)])
def test_sequences_that_are_not_there_are_refused(store: TokenStore, start: int, stop: int) -> None:
    with pytest.raises(InputError, match=rf"must lie in 0 … 3.* Received {start} … {stop}"):
        store.read(start, stop)


def test_another_process_opens_it_itself(store: TokenStore) -> None:
    data = pickle.dumps(store)
    assert len(data) < 500
    assert pickle.loads(data).read(0, 3).tokens.tolist() == store.read(0, 3).tokens.tolist()


@pytest.mark.parametrize("name", ["tokens.npy", "starts.npy", "places.npy", "documents.parquet"])
def test_a_changed_byte_is_found(store: TokenStore, name: str) -> None:
    path = store.directory / name
    content = bytearray(path.read_bytes())
    content[-16] ^= 1
    path.write_bytes(content)
    assert TokenStore.open(store.directory).damaged() == [name]


def test_a_missing_table_of_documents_is_found(store: TokenStore) -> None:
    (store.directory / "documents.parquet").unlink()
    assert store.damaged() == ["documents.parquet"]


@pytest.mark.parametrize("name", ["tokens.npy", "starts.npy", "places.npy"])
@pytest.mark.parametrize("damage", ["gone", "cut", "empty", "other", "longer"])
def test_a_damaged_array_is_refused(store: TokenStore, name: str, damage: str) -> None:
    path = store.directory / name
    if damage == "gone":
        path.unlink()
    elif damage in ("cut", "empty"):
        path.write_bytes(path.read_bytes()[:-2] if damage == "cut" else b"")
    else:
        found = np.load(path)
        np.save(path, found.astype(float) if damage == "other" else np.append(found, 1))
    with pytest.raises(InputError, match=rf"{name} (cannot be read|must hold \d+ whole numbers)"):
        TokenStore.open(store.directory)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "other"}, "must be of format 'interp-tokens', version 1. Received 'other', 1"),
        ({"version": 2}, "Received 'interp-tokens', 2"),
        ({"layout": None}, "store.json is damaged"),
        ({"layout": {"prefix": [], "suffix": []}}, "store.json is damaged"),
        ({"n_tokens": "many"}, "store.json is damaged"),
        ({"sha256": {}}, "store.json is damaged"),
        ({"digest": "0" * 64}, "its digest must be that of its layout and hashes"),
        ({"n_sequences": 4}, "n_sequences must be 3. Received 4"),
    ],
)
def test_a_damaged_description_is_refused(
    store: TokenStore, fields: dict[str, Any], message: str
) -> None:
    path = store.directory / "store.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    with pytest.raises(InputError, match=message):
        TokenStore.open(store.directory)


@pytest.mark.parametrize("change", [{"length": 0}, {"length": 10**30}, {"pad": "a"}, {"kind": ""}])
def test_another_layout_is_refused(store: TokenStore, change: dict[str, Any]) -> None:
    layout = {**store.layout.to_dict(), **change}
    with pytest.raises(InputError, match="a layout must be of sequences with room"):
        Layout.from_dict(layout)


def test_links_pipes_and_impossible_places_are_refused(store: TokenStore, tmp_path: Path) -> None:
    folder = store.directory
    np.save(folder / "starts.npy", np.array([0, 10**9, 2 * 10**9]))
    with pytest.raises(InputError, match="is damaged"):
        TokenStore.open(folder).read(0, 3)
    (folder / "documents.parquet").write_bytes(b"no table")
    with pytest.raises(InputError, match=r"documents.parquet cannot be read"):
        _ = store.documents
    (folder / "starts.npy").unlink()
    os.mkfifo(folder / "starts.npy")
    with pytest.raises(InputError, match="no file"):
        TokenStore.open(folder)
    (folder / "starts.npy").unlink()
    (folder / "starts.npy").symlink_to("/dev/null")
    with pytest.raises(InputError, match="leads out"):
        TokenStore.open(folder)


def test_a_directory_without_a_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"store.json does not exist"):
        TokenStore.open(tmp_path)
