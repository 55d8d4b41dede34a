"""Documents of text files and of JSON lines, read piece by piece."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from typing import IO, Any

import pyarrow as pa

from interp.errors import InputError
from interp.harvest.corpus.document import Document, no_column, unreadable
from interp.harvest.corpus.settings import COMPRESSIONS, Documents

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # says how a file is encoded, and is no part of its text


def text_documents(path: str, documents: Documents) -> Iterator[Document]:
    """The documents of a text file, without the line breaks that end them.

    A document's place is the line that it begins at, from 1.

    Raises:
        InputError: if the file cannot be read or is not UTF-8.
    """
    if documents == "file":
        yield Document(_whole(path), place=1, done=1.0)
        return
    paragraph: list[str] = []
    number, begin, done = 0, 0, 0.0
    for number, line, done in _lines(path):
        text = _decoded(line, path, number)
        blank = not text or text.isspace()
        if documents == "line":
            if not blank:
                yield Document(text, place=number, done=done)
            continue
        if blank and paragraph:
            yield Document("\n".join(paragraph), place=begin, done=done)
            paragraph = []
        elif not blank:
            begin = begin if paragraph else number
            paragraph.append(text)
    if paragraph:
        yield Document("\n".join(paragraph), place=begin, done=done)


def json_documents(path: str, column: str) -> Iterator[Document]:
    """The documents of a file with a JSON object a line; blank lines hold none.

    A document's place is its line, from 1.

    Raises:
        InputError: if the file cannot be read, or a line is no object with a text or a list of
            tokens in this column.
    """
    for number, line, done in _lines(path):
        text = _decoded(line, path, number)
        if not text or text.isspace():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as fault:
            raise InputError(
                f"{path}:{number} must be a JSON object. It is not: {fault}."
            ) from fault
        if not isinstance(row, dict):
            raise InputError(f"{path}:{number} must be a JSON object. Received {row!r:.80}.")
        if column not in row:
            raise no_column(f"{path}:{number}", column, row)
        yield Document(_checked(row[column], f"{path}:{number}", column), place=number, done=done)


def _checked(value: Any, where: str, column: str) -> str | list[int]:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        # A bool is an int to Python, but no token.
        wrong = [entry for entry in value if type(entry) is not int]
        if not wrong:
            return value
        raise InputError(
            f"{where} must have whole numbers alone in the list {column!r}. "
            f"Received {wrong[0]!r:.80}."
        )
    raise InputError(
        f"{where} must have a text or a list of tokens in {column!r}. Received {value!r:.80}."
    )


def _lines(path: str) -> Iterator[tuple[int, bytes, float]]:
    """Each line without its break, its number from 1, and how much of the file is read, 0 to 1."""
    size = max(1, os.path.getsize(path))
    try:
        with open(path, "rb") as raw, _unpacked(raw, path) as stream:
            for number, line in enumerate(stream, 1):
                if number == 1:
                    line = line.removeprefix(_BYTE_ORDER_MARK)
                line = line.removesuffix(b"\n").removesuffix(b"\r")
                yield number, line, min(1.0, raw.tell() / size)
    except (OSError, pa.ArrowException) as fault:
        raise unreadable(path, fault) from fault


def _whole(path: str) -> str:
    try:
        with open(path, "rb") as raw, _unpacked(raw, path) as stream:
            content = stream.read()
    except (OSError, pa.ArrowException) as fault:
        raise unreadable(path, fault) from fault
    content = content.removeprefix(_BYTE_ORDER_MARK)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as fault:
        number = content.count(b"\n", 0, fault.start) + 1
        begin = content.rfind(b"\n", 0, fault.start) + 1
        raise _not_utf8(fault, path, number, fault.start - begin) from fault


def _unpacked(raw: IO[bytes], path: str) -> Any:
    compression = COMPRESSIONS.get(os.path.splitext(path.lower())[1])
    if compression is None:
        return raw
    return io.BufferedReader(pa.CompressedInputStream(raw, compression))


def _decoded(line: bytes, path: str, number: int) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise _not_utf8(fault, path, number, fault.start) from fault


def _not_utf8(fault: UnicodeDecodeError, path: str, line: int, byte: int) -> InputError:
    return InputError(
        f"{path}:{line} must be UTF-8. Byte {byte} of the line is "
        f"0x{fault.object[fault.start]:02x}: {fault.reason}."
    )
