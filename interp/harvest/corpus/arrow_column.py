"""Documents of a column of Arrow arrays: texts, or lists of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc

from interp.errors import InputError
from interp.harvest.corpus.document import Document, no_column, unreadable

BATCH_ROWS = 1024
"""Rows of a table that are held in memory at once."""


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Turn what Arrow raises about a file into an `InputError` that names it."""
    try:
        yield
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError) as fault:
        raise unreadable(path, fault) from fault


def check_column(path: str, column: str, schema: pa.Schema) -> None:
    """Check that a table has the column, once, and that it holds texts or lists of tokens.

    Raises:
        InputError: if not.
    """
    if schema.names.count(column) != 1:
        raise no_column(path, column, schema.names)
    kind = schema.field(column).type
    if not _is_text(kind) and not _is_tokens(kind):
        raise InputError(
            f"{path} must have texts or lists of whole numbers in {column!r}. It has {kind}."
        )


def column_documents(
    path: str, column: str, arrays: Iterable[pa.Array], n_rows: int
) -> Iterator[Document]:
    """A document for each row of these arrays, of which there are `n_rows` in all.

    Raises:
        InputError: for a row without a value, and for damage.
    """
    first = 0
    with readable(path):
        for array in arrays:
            array.validate(full=True)  # offsets and UTF-8: nothing has looked at them yet
            _refuse_nulls(array, f"{path}, column {column!r}", first)
            contents = array.to_pylist() if _is_text(array.type) else _lists(array)
            for row, content in enumerate(contents, first):
                yield Document(content, place=row, done=(row + 1) / n_rows)
            first += len(array)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    types = pa.types
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _is_tokens(kind: pa.DataType) -> bool:
    types = pa.types
    lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return lists and types.is_integer(kind.value_type)


def _refuse_nulls(array: pa.Array, where: str, first: int) -> None:
    if array.null_count:
        row = first + pc.index(array.is_null(), True).as_py()
        raise InputError(f"{where}: row {row} must have a value. It is null.")
    if _is_tokens(array.type) and array.flatten().null_count:
        row = first + next(i for i, tokens in enumerate(array) if tokens.values.null_count)
        raise InputError(f"{where}: row {row} must have tokens alone. It holds a null.")


def _lists(array: pa.Array) -> Iterator[object]:
    values = array.flatten().cast(pa.int64()).to_numpy(zero_copy_only=False)
    begin = 0
    for length in pc.list_value_length(array).to_pylist():
        yield values[begin : begin + length]
        begin += length
