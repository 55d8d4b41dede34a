from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interp import InputError
from interp.harvest.corpus.document import Document
from interp.harvest.corpus.parquet_file import parquet_documents

TEXTS = [f"text {i} é" * (i % 4) for i in range(2500)]
LISTS = [list(range(i % 5)) for i in range(2500)]


def _write(tmp_path: Path, **columns: Any) -> str:
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=700)
    return str(tmp_path / "a.parquet")


def _contents(found: list[Document]) -> list[Any]:
    return [x.content.tolist() if isinstance(x.content, np.ndarray) else x.content for x in found]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
)
def test_a_row_is_a_text(tmp_path: Path, kind: pa.DataType) -> None:
    path = _write(tmp_path, n=pa.array(range(2500)), text=pa.array(TEXTS, pa.string()).cast(kind))
    found = list(parquet_documents(path, "text"))
    assert _contents(found) == TEXTS
    assert [x.place for x in found] == list(range(2500))
    assert found[1249].done == 0.5
    assert found[-1].done == 1.0


@pytest.mark.parametrize("value", [pa.uint8(), pa.int32(), pa.uint64()])
@pytest.mark.parametrize("kind", [pa.list_, pa.large_list])
def test_a_row_is_a_list_of_tokens(tmp_path: Path, value: pa.DataType, kind: Any) -> None:
    path = _write(tmp_path, **{"a.b": pa.array(LISTS, kind(value)), "a": pa.array(TEXTS)})
    assert _contents(list(parquet_documents(path, "a.b"))) == LISTS


def test_a_row_is_tokens_of_one_length(tmp_path: Path) -> None:
    path = _write(tmp_path, tokens=pa.array([[1, 2], [3, 4]], pa.list_(pa.int16(), 2)))
    assert _contents(list(parquet_documents(path, "tokens"))) == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([1.5]), "must have texts or lists of whole numbers in 'text'. It has double"),
        (pa.array([1]), "It has int64"),
        (pa.array([None]), "It has null"),
        (pa.array([b"a"]), "It has binary"),
        (pa.array([[1.5]]), r"It has list<\w+: double>"),
        (pa.array([[[1]]]), r"It has list<\w+: list"),
        (pa.array(["a"] * 1500 + [None]), "row 1500 must have a value. It is null"),
        (pa.array([[1], [], None]), "row 2 must have a value. It is null"),
        (pa.array([[1], [2, None]]), "row 1 must have tokens alone. It holds a null"),
        (
            pa.array([[2**64 - 1]], pa.list_(pa.uint64())),
            "a.parquet cannot be read: .*not in range",
        ),
        (
            pa.Array.from_buffers(
                pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")]
            ),
            "a.parquet cannot be read: .*UTF8",
        ),
    ],
)
def test_what_is_no_text_and_no_tokens_is_refused(
    tmp_path: Path, column: pa.Array, message: str
) -> None:
    path = _write(tmp_path, text=column)
    with pytest.raises(InputError, match=message):
        list(parquet_documents(path, "text"))


def test_a_missing_column_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path, body=["a"], id=[1])
    with pytest.raises(InputError, match=r"must have the column 'text'. It has 'body', 'id'"):
        list(parquet_documents(path, "text"))


@pytest.mark.parametrize("part", [0.0, 0.3, 0.97])
def test_damage_is_refused(tmp_path: Path, part: float) -> None:
    path = Path(_write(tmp_path, text=TEXTS))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)] or b"no such thing")
    with pytest.raises(InputError, match=r"a.parquet cannot be read: "):
        list(parquet_documents(str(path), "text"))


def test_damage_in_the_middle_is_refused(tmp_path: Path) -> None:
    path = Path(_write(tmp_path, text=TEXTS))
    content = bytearray(path.read_bytes())
    content[40:400] = bytes(360)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a.parquet cannot be read: "):
        list(parquet_documents(str(path), "text"))
