"""Writing the files of a token store, piece by piece."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from interp.errors import require
from interp.files.disk import sync_directory
from interp.harvest.corpus.batches import TokenBatch
from interp.harvest.corpus.growing import GrowingArray
from interp.harvest.corpus.layout import Layout
from interp.harvest.corpus.store import DOCUMENT, DOCUMENTS, FORMAT, VERSION

_DOCUMENTS_SCHEMA = pa.schema(
    {"file": pa.dictionary(pa.int32(), pa.string()), "place": pa.int64(), "n_tokens": pa.int64()}
)
_ROW_GROUP = 1 << 16


class StoreWriter:
    """Fills an empty directory with a token store. Use it as a context manager.

    Attributes:
        n_tokens: Tokens so far.
        n_documents: Documents so far.
    """

    def __init__(self, directory: Path, layout: Layout, d_vocab: int) -> None:
        self.n_tokens = self.n_documents = 0
        self._directory, self._layout = directory, layout
        self._longest = self._taken = self._cut_off = 0
        self._open = ExitStack()
        narrow = d_vocab <= np.iinfo(np.uint16).max + 1
        self._tokens = self._array("tokens", np.dtype(np.uint16 if narrow else np.uint32))
        self._starts, self._places = (
            self._array(name, np.dtype(np.int64)) for name in ("starts", "places")
        )
        for ends in (self._starts, self._places):
            ends.append(np.zeros(1, dtype=np.int64))
        table = pq.ParquetWriter(directory / DOCUMENTS, _DOCUMENTS_SCHEMA)
        self._table = self._open.enter_context(table)
        self._rows: list[pa.RecordBatch] = []

    def _array(self, name: str, dtype: np.dtype[Any]) -> GrowingArray:
        return self._open.enter_context(GrowingArray(self._directory / f"{name}.npy", dtype))

    def __enter__(self) -> Self:
        """Nothing has to be opened any more."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self._open.close()

    def append(self, batch: TokenBatch) -> None:
        """Write some documents."""
        room = self._layout.room
        self._tokens.append(batch.tokens)
        self._starts.append(self.n_tokens + np.cumsum(batch.lengths))
        spans = np.cumsum(self._layout.spans(batch.lengths))
        self._places.append(self._taken + spans)
        self.n_tokens += len(batch.tokens)
        self.n_documents += len(batch.lengths)
        self._taken += int(spans[-1])
        self._longest = max(self._longest, int(batch.lengths.max()))
        if self._layout.kind == "padded" and self._layout.overlong == "cut":
            self._cut_off += int((batch.lengths - room).clip(min=0).sum())
        file = pa.DictionaryArray.from_arrays(np.zeros(len(batch.places), np.int32), [batch.path])
        columns = [file, pa.array(batch.places, pa.int64()), pa.array(batch.lengths)]
        self._rows.append(pa.RecordBatch.from_arrays(columns, schema=_DOCUMENTS_SCHEMA))
        if sum(map(len, self._rows)) >= _ROW_GROUP:
            self._write_rows()

    def _write_rows(self) -> None:
        self._table.write_table(pa.Table.from_batches(self._rows).unify_dictionaries())
        self._rows = []

    def finish(self, made_from: dict[str, Any], shorten: bool) -> None:
        """Write the rest, after the last document.

        Args:
            made_from: What the store shall say that it was made from.
            shorten: Make padded sequences no longer than the longest document needs.

        Raises:
            InputError: if there are too few tokens for a single sequence.
        """
        if self._rows:
            self._write_rows()
        self.__exit__()
        layout = self._layout
        require(self.n_tokens > 0, "a corpus must have at least one token. This one has none")
        if shorten:
            needed = self._longest + layout.length - layout.room
            layout = dataclasses.replace(layout, length=min(layout.length, needed))
        n_sequences = layout.n_sequences(self._taken)
        require(
            n_sequences > 0,
            f"a packed corpus must fill a sequence, {layout.room} tokens. This one has "
            f"{layout.stream_length(self._taken)}: choose a shorter length, or incomplete='pad'",
        )
        arrays = {"tokens": self._tokens, "starts": self._starts, "places": self._places}
        sha256 = {name: array.sha256() for name, array in arrays.items()}
        with open(self._directory / DOCUMENTS, "rb") as file:
            of_documents = hashlib.file_digest(file, "sha256").hexdigest()
        document = {
            "format": FORMAT,
            "version": VERSION,
            "digest": layout.digest(sha256),
            "n_sequences": n_sequences,
            "n_documents": self.n_documents,
            "n_tokens": self.n_tokens,
            "n_left_out": self._left_out(n_sequences),
            "layout": layout.to_dict(),
            "sha256": {**sha256, "documents": of_documents},
            "made_from": made_from,
        }
        text = json.dumps(document, indent=1, ensure_ascii=False)
        (self._directory / DOCUMENT).write_text(text, encoding="utf-8")
        for path in self._directory.iterdir():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        sync_directory(self._directory)

    def _left_out(self, n_sequences: int) -> int:
        if self._layout.kind == "padded":
            return self._cut_off
        starts, places = (
            np.load(self._directory / f"{name}.npy", mmap_mode="r") for name in ("starts", "places")
        )
        end = n_sequences * self._layout.room  # in the stream
        last = min(int(np.searchsorted(places, end, side="right")), self.n_documents) - 1
        before = min(int(starts[last] + end - places[last]), int(starts[last + 1]))
        return self.n_tokens - before
