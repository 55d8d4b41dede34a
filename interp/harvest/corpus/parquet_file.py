"""Documents of a Parquet file."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow.parquet as pq

from interp.harvest.corpus.arrow_column import (
    BATCH_ROWS,
    check_column,
    column_documents,
    readable,
)
from interp.harvest.corpus.document import Document


def parquet_documents(path: str, column: str) -> Iterator[Document]:
    """A document for each row, whose place it is, from 0.

    Raises:
        InputError: if the file cannot be read, or the column does not hold texts or lists of
            tokens.
    """
    with readable(path):
        file = pq.ParquetFile(path, memory_map=True)
    with file:
        check_column(path, column, file.schema_arrow)
        batches = file.iter_batches(BATCH_ROWS, columns=[column], use_threads=False)
        arrays = (batch.column(column) for batch in batches)
        yield from column_documents(path, column, arrays, file.metadata.num_rows)
