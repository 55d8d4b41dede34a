"""How much memory a saved table may take, known before it is read.

Parquet packs well: a file of kilobytes can hold a billion equal numbers, or a long text a million
times. What its footer says is compared with limits far above what any analysis writes.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from interp.errors import InputError
from interp.files import short

MOST_CELLS = 50_000_000
MOST_BYTES = 2**30  # of a table, unpacked
_TEXTS = (pa.types.is_string, pa.types.is_large_string)
# An empty or all-missing column of objects is written as null.
_FLAT = (*_TEXTS, pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null)


def require_modest(path: Path) -> None:
    """Check that a table is not larger in memory than any result is.

    Raises:
        InputError: If it has more than 50 million cells, unpacks to more than 1 GiB, or has columns
            of anything but texts, numbers and bools: a list in a cell may be of any length.
        pyarrow.ArrowException: If it is no whole Parquet file.
    """
    with pq.ParquetFile(path) as file:
        footer = file.metadata
        cells = footer.num_rows * max(1, footer.num_columns)
        if cells > MOST_CELLS:
            raise InputError(
                f"{path} must have at most {MOST_CELLS} cells. It has {footer.num_rows} rows of "
                f"{footer.num_columns}"
            )
        for field in file.schema_arrow:
            if not any(test(field.type) for test in _FLAT):
                raise InputError(
                    f"{path} must have columns of texts, numbers or bools. "
                    f"{short(repr(field.name), 100)} is of {short(field.type, 100)}"
                )
        groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
        unpacked = sum(group.total_byte_size for group in groups)
        _require_bytes(path, unpacked)
        texts = [field.name for field in file.schema_arrow if _is_text(field.type)]
        # No text is longer than all that is stored: mostly that settles it.
        if texts and unpacked * footer.num_rows > MOST_BYTES:
            _require_bytes(path, unpacked + _text_bytes(path, texts))


def _is_text(kind: pa.DataType) -> bool:
    return any(test(kind) for test in _TEXTS)


def _text_bytes(path: Path, columns: list[str]) -> int:
    """Bytes of all texts written out; read as numbers of a list in which each stands once."""
    with pq.ParquetFile(path, read_dictionary=columns) as file:
        total = 0
        for column in file.read(columns=columns).columns:
            for chunk in column.chunks:
                if isinstance(chunk, pa.DictionaryArray):
                    each = pc.take(pc.binary_length(chunk.dictionary), chunk.indices)
                else:
                    each = pc.binary_length(chunk)
                total += pc.sum(pc.cast(each, pa.int64())).as_py() or 0
    return total


def _require_bytes(path: Path, found: int) -> None:
    if found > MOST_BYTES:
        raise InputError(f"{path} must unpack to at most {MOST_BYTES} bytes. It would to {found}")
