from __future__ import annotations

import bz2
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import InputError
from interp.harvest.corpus.text_files import json_documents, text_documents

TEXT = "One\ntwo \n\n \t\r\nthrée\r\n\n\nfour"


@pytest.fixture
def text_file(tmp_path: Path) -> str:
    (tmp_path / "a.txt").write_bytes(TEXT.encode())
    return str(tmp_path / "a.txt")


def _found(path: str, documents: Any) -> list[tuple[object, int]]:
    return [(document.content, document.place) for document in text_documents(path, documents)]


def test_a_file_is_a_document_as_it_is(text_file: str) -> None:
    assert _found(text_file, "file") == [(TEXT, 1)]


def test_lines_are_documents(text_file: str) -> None:
    assert _found(text_file, "line") == [("One", 1), ("two ", 2), ("thrée", 5), ("four", 8)]


def test_paragraphs_are_documents(text_file: str) -> None:
    assert _found(text_file, "paragraph") == [("One\ntwo ", 1), ("thrée", 5), ("four", 8)]


@settings(deadline=None)
@given(st.lists(st.text(st.sampled_from("aé \u2028\r"), max_size=4), max_size=8))
def test_paragraphs_are_runs_of_lines(tmp_path_factory, lines: list[str]) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes("\n".join(lines).encode())
    expected: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            expected[-1].append(line.removesuffix("\r"))
        else:
            expected.append([])
    assert [text for text, _ in _found(str(path), "paragraph")] == [
        "\n".join(lines) for lines in expected if lines
    ]


def test_how_much_is_read_is_told(text_file: str) -> None:
    done = [document.done for document in text_documents(text_file, "line")]
    assert done == sorted(done)
    assert done[-1] == 1.0


@pytest.mark.parametrize("documents", ["file", "line", "paragraph"])
def test_a_byte_order_mark_is_no_text(tmp_path: Path, documents: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone")
    assert _found(str(path), documents) == [("one", 1)]


@pytest.mark.parametrize("ending", ["gz", "bz2", "zst", "lz4"])
def test_compressed_text_is_read(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.txt.{ending}"
    with pa.output_stream(str(path), compression="detect") as stream:
        stream.write(TEXT.encode())
    assert _found(str(path), "line") == [("One", 1), ("two ", 2), ("thrée", 5), ("four", 8)]
    assert _found(str(path), "file") == [(TEXT, 1)]


@pytest.mark.parametrize(("ending", "compress"), [("gz", gzip.compress), ("bz2", bz2.compress)])
def test_compressed_pieces_one_after_another_are_read(
    tmp_path: Path, ending: str, compress: Any
) -> None:
    path = tmp_path / f"a.txt.{ending}"
    path.write_bytes(compress(b"one\ntw") + compress(b"o\n"))
    assert _found(str(path), "line") == [("one", 1), ("two", 2)]


@pytest.mark.parametrize("documents", ["file", "line", "paragraph"])
@pytest.mark.parametrize("ending", ["gz", "bz2", "zst", "lz4"])
def test_damaged_compressed_text_is_refused(tmp_path: Path, ending: str, documents: Any) -> None:
    path = tmp_path / f"a.txt.{ending}"
    with pa.output_stream(str(path), compression="detect") as stream:
        stream.write(b"".join(b"%d\n" % (i * i) for i in range(4000)))
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"no such thing" * 9):
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"a\.txt\.{ending} cannot be read: "):
            list(text_documents(str(path), documents))


@pytest.mark.parametrize("documents", ["file", "line", "paragraph"])
def test_what_is_not_utf8_is_refused(tmp_path: Path, documents: Any) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"fine\n\xc3\xa9 b\xe9d\n")
    with pytest.raises(InputError, match=r"a\.txt:2 must be UTF-8. Byte 4 of the line is 0xe9"):
        list(text_documents(str(path), documents))


# --- JSON lines ----------------------------------------------------------------------------------


def _json_file(tmp_path: Path, *lines: str) -> str:
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return str(tmp_path / "a.jsonl")


def test_rows_are_documents(tmp_path: Path) -> None:
    rows = [{"text": "a\nb", "n": 1}, {"text": ""}, {"text": [1, 2]}, {"text": []}]
    path = _json_file(tmp_path, json.dumps(rows[0]), "", *map(json.dumps, rows[1:]))
    found = [(document.content, document.place) for document in json_documents(path, "text")]
    assert found == [("a\nb", 1), ("", 3), ([1, 2], 4), ([], 5)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a"', r"a\.jsonl:2 must be a JSON object. It is not: Expecting ',' delimiter"),
        ("[" * 100_000, r"a\.jsonl:2 must be a JSON object. It is not: .*recursion"),
        ('["a"]', r"must be a JSON object. Received \['a'\]"),
        ("null", "must be a JSON object. Received None"),
        ('{"body": 1, "id": 2}', r"a\.jsonl:2 must have the column 'text'. It has 'body', 'id'"),
        ("{}", "must have the column 'text'. It has none"),
        ('{"text": null}', "must have a text or a list of tokens in 'text'. Received None"),
        ('{"text": 3}', "Received 3"),
        ('{"text": {"a": 1}}', "Received {'a': 1}"),
        ('{"text": [1, 2.0]}', "must have whole numbers alone in the list 'text'. Received 2.0"),
        ('{"text": [true]}', "Received True"),
        ('{"text": [null]}', "Received None"),
        ('{"text": [[1]]}', r"Received \[1\]"),
    ],
)
def test_a_broken_row_is_refused(tmp_path: Path, line: str, message: str) -> None:
    path = _json_file(tmp_path, '{"text": "a"}', line)
    with pytest.raises(InputError, match=message):
        list(json_documents(path, "text"))


def test_only_some_of_many_columns_are_listed(tmp_path: Path) -> None:
    path = _json_file(tmp_path, json.dumps({f"c{i}": 0 for i in range(100)}))
    with pytest.raises(InputError, match=r"'c0', .*'c19', …\."):
        list(json_documents(path, "text"))
