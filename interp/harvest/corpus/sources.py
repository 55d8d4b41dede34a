"""The files of a corpus: what identifies them, and their documents in order."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from interp.errors import InputError
from interp.harvest.corpus.document import Document, unreadable
from interp.harvest.corpus.parquet_file import parquet_documents
from interp.harvest.corpus.saved_dataset import dataset_documents, dataset_files
from interp.harvest.corpus.settings import CorpusSettings
from interp.harvest.corpus.text_files import json_documents, text_documents


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as it was read.

    Attributes:
        path: Its path.
        bytes: Its size.
        sha256: Of its content, in hex.
    """

    path: str
    bytes: int
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def source_files(settings: CorpusSettings) -> list[SourceFile]:
    """What identifies the content of every file of a corpus; reads all of it once.

    Raises:
        InputError: if a file does not exist, is empty or cannot be read.
    """
    return [_identified(file) for path in settings.files for file in files_of(path, settings)]


def files_of(path: str, settings: CorpusSettings) -> Sequence[str | Path]:
    """The files that one of a corpus's paths stands for: itself, or what is in a directory.

    Raises:
        InputError: if there is no such file, or no data set in a directory.
    """
    if not os.path.exists(path):
        raise InputError(f"files must exist. {path!r} does not.")
    if settings.format_of(path) == "hf":
        return dataset_files(path)
    if not os.path.isfile(path):
        raise InputError(f"files must be files for this format. {path!r} is not.")
    return [path]


def documents(settings: CorpusSettings, path: str) -> Iterator[Document]:
    """The documents of one of the files, in order.

    Raises:
        InputError: if it cannot be read as the settings say.
    """
    match settings.format_of(path):
        case "text":
            return text_documents(path, settings.documents)
        case "jsonl":
            return json_documents(path, settings.column)
        case "parquet":
            return parquet_documents(path, settings.column)
        case "hf":
            return dataset_documents(path, settings.column)


def holds_tokens(settings: CorpusSettings) -> bool:
    """Whether the first document of a corpus is tokens already.

    Raises:
        InputError: if it cannot be read.
    """
    for path in settings.files:
        if settings.format_of(path) == "text":
            return False
        for document in documents(settings, path):
            return not isinstance(document.content, str)
    return False


def _identified(path: str | Path) -> SourceFile:
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as fault:
        raise unreadable(str(path), fault) from fault
    if size == 0:
        raise InputError(f"files must not be empty. {str(path)!r} is.")
    return SourceFile(str(path), size, digest)
