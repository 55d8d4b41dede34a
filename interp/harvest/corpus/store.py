"""The tokens of a corpus on disk, and reading sequences of them.

<directory>/
  store.json          layout, counts, hashes, and what the tokens were made from
  tokens.npy          the documents' tokens, one document after another, without special ones
  starts.npy          where each document begins in them, and where the last ends
  places.npy          where each begins in the packed stream, or its first padded sequence
  documents.parquet   each document's file, place in it and number of tokens

Sequences are put together when they are read (`interp.harvest.corpus.layout`).
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.errors import InputError, require
from interp.files import read_json, require_no_links_out
from interp.harvest.corpus.layout import Layout
from interp.harvest.corpus.reading import Reader

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "interp-tokens"
VERSION = 1
DOCUMENT = "store.json"
DOCUMENTS = "documents.parquet"
ARRAYS = ("tokens", "starts", "places")


@dataclass(frozen=True, slots=True)
class TokenBlock:
    """Some sequences of a corpus, on the CPU.

    Attributes:
        tokens: Token ids, int64.
        real: False for padding; None: there is no padding.
        document: The number of the document that each token is of; -1 for padding and for tokens
            of none: BOS and others put around it, and separators.
        document_position: Which token of its document it is, from 0; -1 likewise.
    """

    tokens: Int[Tensor, "sequence pos"]
    real: Bool[Tensor, "sequence pos"] | None
    document: Int[Tensor, "sequence pos"]
    document_position: Int[Tensor, "sequence pos"]


class TokenStore:
    """A tokenised corpus: memory-mapped, immutable, cheap to open in any process.

    Attributes:
        directory: Where it is.
        layout: What its sequences are like.
        digest: A hash (sha256, hex) of all tokens and their layout.
        n_sequences: How many sequences there are.
        n_documents: How many documents, those without tokens included.
        n_tokens: Tokens of all documents; special tokens and padding do not count.
        n_left_out: How many of them are in no sequence: the end of a packed corpus that fills no
            sequence, and what padded documents are cut by.
        made_from: Settings, files and tokenizer that the tokens were made from, as JSON.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        """Open what `prepare_tokens` wrote.

        Raises:
            InputError: if there is none, or it is damaged.
        """
        self.directory = Path(directory)
        if self.directory.is_dir():
            require_no_links_out(self.directory)
        document = read_json(self.directory / DOCUMENT)
        found = document.get("format"), document.get("version")
        require(
            found == (FORMAT, VERSION),
            f"{self.directory / DOCUMENT} must be of format {FORMAT!r}, version {VERSION}. "
            f"Received {found[0]!r}, {found[1]!r}",
        )
        try:
            self.layout = Layout.from_dict(document["layout"])
            self.digest = str(document["digest"])
            self.n_sequences = int(document["n_sequences"])
            self.n_documents = int(document["n_documents"])
            self.n_tokens = int(document["n_tokens"])
            self.n_left_out = int(document["n_left_out"])
            self.made_from: dict[str, Any] = dict(document["made_from"])
            self._sha256 = {name: str(document["sha256"][name]) for name in (*ARRAYS, "documents")}
        except (LookupError, TypeError, ValueError) as fault:
            raise InputError(f"{self.directory / DOCUMENT} is damaged: {fault!r}.") from fault
        arrays = {name: self._sha256[name] for name in ARRAYS}
        require(
            self.layout.digest(arrays) == self.digest,
            f"{self.directory / DOCUMENT} is damaged: its digest must be that of its layout and "
            f"hashes. Received {self.digest:.80}",
        )
        ends = self.n_documents + 1
        self._reader = Reader(
            self.layout,
            self._array("tokens", self.n_tokens),
            self._array("starts", ends),
            self._array("places", ends),
        )
        n_sequences = self.layout.n_sequences(int(self._reader.places[-1]))
        require(
            n_sequences == self.n_sequences,
            f"{self.directory / DOCUMENT} is damaged: n_sequences must be {n_sequences}. Received "
            f"{self.n_sequences}",
        )

    @classmethod
    def open(cls, directory: str | os.PathLike[str]) -> Self:
        """Open what `prepare_tokens` wrote.

        Raises:
            InputError: if there is none, or it is damaged.
        """
        return cls(directory)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens the files itself."""
        return type(self), (self.directory,)

    def __len__(self) -> int:
        """How many sequences there are."""
        return self.n_sequences

    @property
    def length(self) -> int:
        """Tokens of every sequence."""
        return self.layout.length

    def read(self, start: int, stop: int) -> TokenBlock:
        """The sequences from `start` to before `stop`.

        Raises:
            InputError: if there are no such sequences, or the files are damaged.
        """
        require(
            0 <= start < stop <= self.n_sequences,
            f"sequences must lie in 0 … {self.n_sequences}, start before stop. "
            f"Received {start} … {stop}",
        )
        try:
            entries = self._reader.read(start, stop)
        except (IndexError, ValueError) as fault:  # of places that cannot be
            raise InputError(f"{self.directory} is damaged: {fault}") from fault
        return TokenBlock(
            tokens=torch.from_numpy(entries.tokens),
            real=None if entries.real.all() else torch.from_numpy(entries.real),
            document=torch.from_numpy(entries.document),
            document_position=torch.from_numpy(entries.document_position),
        )

    @cached_property
    def documents(self) -> pd.DataFrame:
        """A row for each document, by its number: its `file`, its `place` there, its `n_tokens`.

        The place is the line that it begins at (text, JSON lines; from 1) or its row (from 0).

        Raises:
            InputError: if the table is damaged.
        """
        import pandas as pd

        path = self.directory / DOCUMENTS
        try:
            table = pd.read_parquet(path)
        except Exception as fault:  # whatever a damaged file makes pandas and Arrow raise
            raise InputError(f"{path} cannot be read: {fault}") from fault
        require(
            list(table.columns) == ["file", "place", "n_tokens"] and len(table) == self.n_documents,
            f"{path} must have {self.n_documents} rows of file, place and n_tokens. It has "
            f"{len(table)} of {', '.join(map(str, table.columns))!s:.200}",
        )
        return table.rename_axis("document")

    def damaged(self) -> list[str]:
        """The names of the files whose content is no longer what was written; reads all of them."""
        found = {
            f"{name}.npy": hashlib.sha256(getattr(self._reader, name).data).hexdigest()
            for name in ARRAYS
        }
        try:
            with open(self.directory / DOCUMENTS, "rb") as file:
                found[DOCUMENTS] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            found[DOCUMENTS] = ""
        return [name for name, digest in found.items() if digest != self._sha256[Path(name).stem]]

    def _array(self, name: str, length: int) -> np.ndarray[Any, Any]:
        path = self.directory / f"{name}.npy"
        require(path.is_file(), f"{path} cannot be read: it is no file")  # a pipe would block
        try:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as fault:
            raise InputError(f"{path} cannot be read: {fault}") from fault
        require(
            found.shape == (length,) and found.dtype.kind in "iu",
            f"{path} must hold {length} whole numbers. It holds {found.dtype} {found.shape}",
        )
        # Indexing is quicker without numpy's memmap class around the same memory.
        return found.view(np.ndarray)
