"""Sequences of a corpus, put together from the documents' tokens as its layout says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from interp.harvest.corpus.layout import Layout

NOWHERE = -1
"""The document, and the place in it, of a token that belongs to none."""


@dataclass(frozen=True, slots=True)
class Entries:
    """What stands where in some sequences.

    Attributes:
        tokens: The tokens.
        real: False for padding.
        document: The number of the document that a token is of, or `NOWHERE`.
        document_position: Which token of its document it is, or `NOWHERE`.
    """

    tokens: Int64[np.ndarray, "sequence pos"]
    real: Bool[np.ndarray, "sequence pos"]
    document: Int64[np.ndarray, "sequence pos"]
    document_position: Int64[np.ndarray, "sequence pos"]


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads sequences.

    Attributes:
        layout: What a sequence is like.
        tokens: Of all documents, one after another.
        starts: Where in them each document begins; one entry more, where the last ends.
        places: Where each document begins in the stream (packed), or its first sequence (padded);
            one entry more, where the last ends.
    """

    layout: Layout
    tokens: np.ndarray[Any, Any]
    starts: Int64[np.ndarray, "documents_and_end"]
    places: Int64[np.ndarray, "documents_and_end"]

    def read(self, start: int, stop: int) -> Entries:
        """The sequences from `start` to before `stop`, all of which must exist."""
        layout, shape = self.layout, (stop - start, self.layout.length)
        document, position, used = self._bodies(np.arange(start, stop))
        begin, end = len(layout.prefix), len(layout.prefix) + layout.room
        tokens = np.full(shape, layout.pad, dtype=np.int64)
        real = np.zeros(shape, dtype=bool)
        of_document, place = (np.full(shape, NOWHERE, dtype=np.int64) for _ in range(2))

        tokens[:, :begin], real[:, :begin] = layout.prefix, True
        real[:, begin:end] = used
        inside = document != NOWHERE
        of_document[:, begin:end], place[:, begin:end] = document, position
        body = np.full(document.shape, layout.pad)
        if layout.separator is not None:
            body[used] = layout.separator
        body[inside] = self.tokens[self.starts[document[inside]] + position[inside]]
        tokens[:, begin:end] = body
        # Right behind the last token, wherever that is.
        rows, last = np.arange(stop - start), begin + used.sum(1)
        for i, token in enumerate(layout.suffix):
            tokens[rows, last + i], real[rows, last + i] = token, True
        return Entries(tokens, real, of_document, place)

    def _bodies(self, rows: Int64[np.ndarray, "sequence"]) -> tuple[Any, Any, Any]:
        """Document, place in it, and whether there is an entry, `[sequence, room]` each."""
        room = self.layout.room
        offsets = np.arange(room)
        if self.layout.kind == "packed":
            entries = rows[:, None] * room + offsets
            document = self._owner(entries.ravel()).reshape(entries.shape)
            position = entries - self.places[document]
        else:
            document = self._owner(rows)[:, None]
            position = (rows[:, None] - self.places[document]) * room + offsets
            document = np.broadcast_to(document, position.shape)
        used = inside = position < self.starts[document + 1] - self.starts[document]
        if self.layout.kind == "packed":
            used = entries < self.layout.stream_length(int(self.places[-1]))
        return np.where(inside, document, NOWHERE), np.where(inside, position, NOWHERE), used

    def _owner(self, at: Int64[np.ndarray, "entry"]) -> Int64[np.ndarray, "entry"]:
        """The document that each of these ascending places belongs to."""
        low, high = np.searchsorted(self.places, at[[0, -1]], side="right")
        # Of documents that begin at the same place, only the last has tokens.
        near = np.asarray(self.places[low - 1 : high])
        found = low - 2 + np.searchsorted(near, at, side="right")
        # The end of the stream is no document's.
        return np.minimum(found, len(self.places) - 2)
