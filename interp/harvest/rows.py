"""What each row of a dataset is of: its document, its sequence, its position, its token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Int
from torch import Tensor

from interp.errors import InputError, require_one_of, require_whole
from interp.harvest.corpus import TokenStore
from interp.harvest.indexing import RowsInput, one_row, row_numbers
from interp.harvest.open_shards import OpenShards
from interp.harvest.shard_files import INDEX_COLUMNS

TOKENS = "tokens"
_SHARDS_KEPT = 16  # whose index stays in memory
# What others than interp wrote into a Parquet file may raise where it is read.
_DAMAGE = (pa.ArrowException, OSError, ValueError, TypeError, LookupError)


class RowPlace(NamedTuple):
    """Where one row comes from.

    Attributes:
        row: Its number.
        document: The number of its token's document; -1 for a token of none, such as BOS.
        document_position: Which token of the document it is; -1 likewise.
        sequence: The sequence that the model read.
        position: Its token's place there.
        token: Its token's id.
    """

    row: int
    document: int
    document_position: int
    sequence: int
    position: int
    token: int


@dataclass(frozen=True)
class RowPlaces:
    """Where rows come from; the attributes are those of `RowPlace`."""

    row: Int[Tensor, "row"]
    document: Int[Tensor, "row"]
    document_position: Int[Tensor, "row"]
    sequence: Int[Tensor, "row"]
    position: Int[Tensor, "row"]
    token: Int[Tensor, "row"]

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.row)


@dataclass(frozen=True)
class Context:
    """A row's token among those around it, as the model read them.

    Attributes:
        tokens: Ids, without padding.
        at: Which of them is the row's.
        sequence: Which sequence they are of.
        start: The first one's position there.
    """

    tokens: Int[Tensor, "pos"]
    at: int
    sequence: int
    start: int

    def texts(self, to_text: Callable[[int], str]) -> list[str]:
        """Each token's text.

        Args:
            to_text: The text of a token id: `model.to_single_str_token`, or of a tokenizer
                `lambda i: tokenizer.decode([i])`.
        """
        return [to_text(token) for token in self.tokens.tolist()]


class RowIndex:
    """Looks up where rows come from: `data.rows[5]`, `data.rows[[7, 5]]`, `data.rows[:100]`.

    The index of a shard is read when the first of its rows is looked up.

    Args:
        shards: Of the dataset.
    """

    def __init__(self, shards: OpenShards) -> None:
        self._shards = shards
        self._kept = lru_cache(_SHARDS_KEPT)(self._read)

    def __len__(self) -> int:
        """How many rows there are."""
        return self._shards.starts[-1]

    def __getitem__(self, index: int | RowsInput) -> Any:
        """Of one row a `RowPlace`, of several `RowPlaces`, in the order asked for.

        Raises:
            RowOutOfRange: (an IndexError) for a row that there is not.
            InputError: for anything that does not say rows, or a damaged index.
        """
        row = one_row(index, len(self))
        if row is not None:
            shard = self._shards.of_row(row)
            found = self._kept(shard)[:, row - self._shards.starts[shard]]
            return RowPlace(row, *found.tolist())
        return self.places(index)  # type: ignore[arg-type]

    def places(self, rows: RowsInput) -> RowPlaces:
        """Where several rows come from.

        Raises:
            RowOutOfRange: for a row that there is not.
            InputError: for anything that does not say rows, or a damaged index.
        """
        at = row_numbers(rows, len(self))
        numbers, starts = at.numpy(), self._shards.start_rows.numpy()
        shard_of = np.searchsorted(starts, numbers, side="right") - 1
        found = np.empty((len(INDEX_COLUMNS), len(numbers)), dtype=np.int64)
        for shard in np.unique(shard_of).tolist():
            here = np.flatnonzero(shard_of == shard)
            found[:, here] = self._kept(shard)[:, numbers[here] - starts[shard]]
        return RowPlaces(at, *torch.from_numpy(found))

    def column(self, name: str) -> Int[Tensor, "row"]:
        """One column of all rows: targets for probes, groups for a split.

        Args:
            name: `document`, `document_position`, `sequence`, `position` or `token`.

        Raises:
            InputError: for another name, or a damaged index.
        """
        require_one_of("name", name, INDEX_COLUMNS)
        parts = [self._read(shard, (name,)) for shard in range(len(self._shards.receipts))]
        return torch.from_numpy(np.concatenate([np.empty((1, 0), np.int64), *parts], 1)[0])

    def of_document(self, document: int) -> Int[Tensor, "row"]:
        """The rows of a document's tokens, ascending; none if it has no rows.

        Raises:
            InputError: for a number that is no document's, or a damaged index.
        """
        require_whole("document", document, 0)
        # Documents ascend from sequence to sequence, so a shard has those from the last one of the
        # shards before it on.
        last = self._last_documents
        before = np.concatenate([[0], last])[:-1]
        found = []
        for shard in np.flatnonzero((before <= document) & (document <= last)).tolist():
            here = np.flatnonzero(self._kept(shard)[0] == document)
            found.append(torch.from_numpy(here + self._shards.starts[shard]))
        return torch.cat([torch.empty(0, dtype=torch.long), *found])

    def context(self, row: int, before: int = 10, after: int = 10) -> Context:
        """The tokens around a row's, of the sequence that the model read.

        Args:
            row: The row.
            before, after: How many tokens to give at most.

        Raises:
            RowOutOfRange: if there is no such row.
            InputError: for numbers that are negative, or damaged files.
        """
        require_whole("before", before, 0)
        require_whole("after", after, 0)
        place = self[int(row)]
        block = self.tokens.read(place.sequence, place.sequence + 1)
        n_real = block.tokens.shape[1] if block.real is None else int(block.real.sum())
        start = max(place.position - before, 0)
        stop = min(place.position + 1 + after, n_real)
        return Context(
            block.tokens[0, start:stop].clone(), place.position - start, place.sequence, start
        )

    @cached_property
    def tokens(self) -> TokenStore:
        """The corpus.

        Raises:
            InputError: if it is damaged, or not the one that the rows were made from.
        """
        store = TokenStore.open(self._shards.directory / TOKENS)
        expected = self._shards.manifest.tokens["digest"]
        if store.digest != expected:
            raise InputError(
                f"{store.directory} must hold the tokens that the rows were made from, with the "
                f"digest {expected}. It holds {store.digest}."
            )
        return store

    @cached_property
    def _last_documents(self) -> np.ndarray:
        """Of each shard, the last document of its rows and of those before it; -1: there is none.

        Parquet files say what the greatest entry of a column is without being read.
        """
        found = []
        for shard in range(len(self._shards.receipts)):
            path, file = self._file(shard)
            with file:
                groups = [
                    file.metadata.row_group(i).column(0).statistics
                    for i in range(file.metadata.num_row_groups if file.metadata.num_rows else 0)
                ]
                if any(group is None or not group.has_min_max for group in groups):
                    raise InputError(f"{path} must hold statistics of its columns. It has none.")
                found.append(max((group.max for group in groups), default=-1))
        return np.maximum.accumulate(np.array(found, dtype=np.int64))

    def _file(self, shard: int) -> tuple[Path, pq.ParquetFile]:
        """A shard's index, its columns and length compared with what they must be."""
        path = self._shards.path(shard, "rows")
        n_rows = self._shards.receipts[shard].rows
        try:
            file = pq.ParquetFile(path)
            schema, n_found = file.schema_arrow, file.metadata.num_rows
        except _DAMAGE as fault:
            raise InputError(f"{path} is damaged: {fault}") from fault
        wanted = [(name, pa.int64()) for name in INDEX_COLUMNS]
        if [(field.name, field.type) for field in schema] != wanted or n_found != n_rows:
            file.close()
            raise InputError(
                f"{path} must hold {n_rows} rows of the int64 columns {', '.join(INDEX_COLUMNS)}. "
                f"It holds {n_found} of {', '.join(schema.names)!s:.200}."
            )
        return path, file

    def _read(self, shard: int, columns: tuple[str, ...] = INDEX_COLUMNS) -> np.ndarray:
        """Columns of a shard's index, `[column, row]`."""
        path, file = self._file(shard)
        try:
            with file:
                table = file.read(columns=list(columns))
                return np.stack([table[name].to_numpy() for name in columns]).astype(
                    np.int64, casting="safe"
                )
        except _DAMAGE as fault:
            raise InputError(f"{path} is damaged: {fault}") from fault
