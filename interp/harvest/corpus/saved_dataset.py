"""Documents of a directory that `Dataset.save_to_disk` of Hugging Face's `datasets` wrote.

`state.json` names the Arrow streams that hold the rows. Versions before 2.0 could write a stream of
row numbers besides, by which the rows are chosen and ordered.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa

from interp.errors import InputError, require
from interp.harvest.corpus.arrow_column import (
    BATCH_ROWS,
    check_column,
    column_documents,
    readable,
)
from interp.harvest.corpus.document import Document
from interp.saving import read_json

STATE = "state.json"
_SPLITS = "dataset_dict.json"
# Before 1.2 another name was in use for a while.
_INDICES = ("_indices_data_files", "_indices_files")
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


def dataset_files(directory: str) -> list[Path]:
    """All files that decide the rows of a saved data set.

    Raises:
        InputError: if the directory is none, or names files outside of it.
    """
    state = _state(directory)
    return [Path(directory, STATE), *_data_files(directory, state), *_indices(directory, state)]


def dataset_documents(directory: str, column: str) -> Iterator[Document]:
    """A document for each row, whose place it is, from 0.

    Raises:
        InputError: if the directory is no saved data set or cannot be read, or the column does not
            hold texts or lists of tokens.
    """
    state = _state(directory)
    tables = [_mapped(path) for path in _data_files(directory, state)]
    for table in tables:
        check_column(directory, column, table.schema)
    chunks = [chunk for table in tables for chunk in table.column(column).chunks]
    n_rows = sum(map(len, chunks))
    indices = [_mapped(path) for path in _indices(directory, state)]
    if not indices:
        yield from column_documents(directory, column, _parts(chunks), n_rows)
        return
    numbers = [n for table in indices for n in _row_numbers(directory, table, n_rows)]
    arrays = _chosen(chunks, numbers)
    yield from column_documents(directory, column, arrays, len(numbers))


def _state(directory: str) -> dict[str, Any]:
    folder = Path(directory)
    if (folder / _SPLITS).is_file() and not (folder / STATE).is_file():
        names = read_json(folder / _SPLITS).get("splits")
        listed = ", ".join(map(str, names)) if isinstance(names, list) else "none named"
        raise InputError(
            f"{directory} must be one split of a data set. It holds several ({listed}): "
            f"give {folder / 'NAME'}."
        )
    if not (folder / STATE).is_file():
        raise InputError(
            f"{directory} must be a directory that Dataset.save_to_disk wrote. It has no {STATE}."
        )
    return read_json(folder / STATE)


def _data_files(directory: str, state: dict[str, Any]) -> list[Path]:
    found = _named_files(directory, state, "_data_files")
    require(len(found) > 0, f"{directory}/{STATE} must name data files. It names none")
    return found


def _indices(directory: str, state: dict[str, Any]) -> list[Path]:
    return [path for key in _INDICES for path in _named_files(directory, state, key)]


def _named_files(directory: str, state: dict[str, Any], key: str) -> list[Path]:
    entries = state.get(key) or []
    where = f"{key} in {directory}/{STATE}"
    require(isinstance(entries, list), f"{where} must be a list. Received {entries!r:.80}")
    return [_inside(directory, entry, where) for entry in entries]


def _inside(directory: str, entry: object, where: str) -> Path:
    # The earliest versions wrote entries that take a part of a file.
    name = entry.get("filename") if isinstance(entry, dict) and len(entry) == 1 else None
    if not isinstance(name, str) or not name or "\0" in name:
        raise InputError(f"{where} must be a list of {{'filename': …}}. Received {entry!r:.80}.")
    root = os.path.realpath(directory)
    path = Path(os.path.realpath(os.path.join(root, name)))
    if not path.is_relative_to(root):
        raise InputError(f"{where} must name files inside the directory. Received {name!r}.")
    if not path.is_file():
        raise InputError(f"{where} must name files that exist. Received {name!r}.")
    return path


def _mapped(path: Path) -> pa.Table:
    """An Arrow stream's rows, which stay on disk until they are used."""
    with readable(str(path)):
        source = pa.memory_map(str(path))
        table = pa.ipc.open_stream(source).read_all()
        # A stream that is cut between two batches reads like a whole one.
        source.seek(max(0, source.size() - len(_END_OF_STREAM)))
        whole = source.read() == _END_OF_STREAM
    require(whole, f"{path} must end as an Arrow stream does. It is cut off")
    return table


def _parts(chunks: Sequence[pa.Array]) -> Iterator[pa.Array]:
    for chunk in chunks:
        for begin in range(0, len(chunk), BATCH_ROWS):
            yield chunk.slice(begin, BATCH_ROWS)


def _row_numbers(directory: str, table: pa.Table, n_rows: int) -> list[int]:
    where = f"the row numbers of {directory}"
    fits = table.num_columns == 1 and pa.types.is_integer(table.schema.types[0])
    require(fits, f"{where} must be one column of whole numbers. Received {table.schema!s:.80}")
    numbers: list[int] = table.column(0).to_pylist()
    for number in numbers:
        inside = number is not None and 0 <= number < n_rows
        require(inside, f"{where} must lie in 0 … {n_rows - 1}. Received {number}")
    return numbers


def _chosen(chunks: Sequence[pa.Array], numbers: Sequence[int]) -> Iterator[pa.Array]:
    # `take` of a chunked array may join all chunks in memory first.
    ends = list(accumulate(map(len, chunks)))
    for begin in range(0, len(numbers), BATCH_ROWS):
        rows = []
        for number in numbers[begin : begin + BATCH_ROWS]:
            which = bisect_right(ends, number)
            start = ends[which] - len(chunks[which])
            rows.append(chunks[which].slice(number - start, 1))
        yield pa.concat_arrays(rows)
