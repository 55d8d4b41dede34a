"""What decides the tokens of a corpus."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from interp.errors import InputError, is_whole, require, require_one_of, require_whole

Format = Literal["text", "jsonl", "parquet", "hf"]
Documents = Literal["file", "line", "paragraph"]
LayoutName = Literal["packed", "padded"]
Separator = Literal["eos", "none"] | int

DEFAULT_LENGTH = 1024
"""Tokens of a sequence where nothing else is said and the model reads more."""

_SUFFIXES: dict[str, Format] = {
    ".txt": "text", ".text": "text", ".md": "text",
    ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}


@dataclass(frozen=True, kw_only=True)
class CorpusSettings:
    """A corpus, and how its tokens are put into sequences.

    Attributes:
        files: Paths, read in this order. Text and JSON lines may be compressed (`.gz`, `.bz2`,
            `.zst`, `.lz4`). One path may be given by itself.
        format: `text`, `jsonl` (an object a line), `parquet`, or `hf`: a directory that
            `Dataset.save_to_disk` of Hugging Face's `datasets` wrote. None: by each name.
        column: Of `jsonl`, `parquet` and `hf`: what holds a row's text. A column of lists of whole
            numbers is tokens already; they are taken as they are.
        documents: What a document of a text file is: all of it, each line that is not blank, or
            each paragraph (lines between blank lines). A row of the other formats is a document.
        layout: `packed`: documents one after another, cut into sequences of `length` tokens;
            `padded`: each document its own sequence, padded on the right.
        length: Tokens of a sequence, special ones included. None: the model's `n_ctx`, but 1,024 at
            most, and where documents are padded no more than the longest needs.
        prepend_bos: Whether sequences begin with BOS (an encoder's: stand between the special
            tokens that its tokenizer puts around a text). None: as `cfg.default_prepend_bos` says,
            where the tokenizer has them; for documents that are tokens already: no.
        separator: Between packed documents: `eos`, `none` or a token. None: the tokenizer's EOS
            where it has one (an encoder's: SEP or EOS).
        incomplete: The last packed sequence, where it is not full: `drop` it or `pad` it.
        overlong: A padded document that is too long: `cut` it, or `split` it into several
            sequences.
        max_documents: Read no more documents than this.
        max_tokens: Take no more tokens of documents than this; the last document is cut there.
    """

    files: tuple[str, ...]
    format: Format | None = None
    column: str = "text"
    documents: Documents = "file"
    layout: LayoutName = "packed"
    length: int | None = None
    prepend_bos: bool | None = None
    separator: Separator | None = None
    incomplete: Literal["drop", "pad"] = "drop"
    overlong: Literal["cut", "split"] = "cut"
    max_documents: int | None = None
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        """Check every setting.

        Raises:
            InputError: for one that breaks a rule, or that has no use beside the others.
        """
        object.__setattr__(self, "files", _paths(self.files))
        if self.format is not None:
            require_one_of("format", self.format, get_args(Format))
        require(
            isinstance(self.column, str) and self.column != "",
            f"column must be a name. Received {self.column!r}",
        )
        require_one_of("documents", self.documents, get_args(Documents))
        require_one_of("layout", self.layout, get_args(LayoutName))
        require_one_of("incomplete", self.incomplete, ("drop", "pad"))
        require_one_of("overlong", self.overlong, ("cut", "split"))
        for name in ("length", "max_documents", "max_tokens"):
            value = getattr(self, name)
            if value is not None:
                require_whole(name, value, 1)
        require(
            self.prepend_bos is None or isinstance(self.prepend_bos, bool),
            f"prepend_bos must be True, False or None. Received {self.prepend_bos!r}",
        )
        require(
            self.separator in (None, "eos", "none") or is_whole(self.separator, 0),
            f"separator must be 'eos', 'none', a token or None. Received {self.separator!r}",
        )
        self._check_uses()

    def _check_uses(self) -> None:
        formats = {self.format_of(path) for path in self.files}
        packed = self.layout == "packed"
        for name, default, has_use, what_for in (
            ("documents", "file", "text" in formats, "text files"),
            ("column", "text", bool(formats - {"text"}), "jsonl, parquet and hf"),
            ("separator", None, packed, "the packed layout"),
            ("incomplete", "drop", packed, "the packed layout"),
            ("overlong", "cut", not packed, "the padded layout"),
        ):
            value = getattr(self, name)
            require(has_use or value == default, f"{name} is for {what_for}. Received {value!r}")

    def format_of(self, path: str) -> Format:
        """How one of the files is read.

        Raises:
            InputError: if neither `format` nor its name says so.
        """
        if self.format is not None:
            return self.format
        if os.path.isdir(path):
            return "hf"
        stem, last = os.path.splitext(path.lower())
        found = _SUFFIXES.get(os.path.splitext(stem)[1] if last in COMPRESSIONS else last)
        if found is None:
            require(os.path.exists(path), f"files must exist. {path!r} does not")
            raise InputError(
                f"format must be given for a file whose name does not end in "
                f"{', '.join(_SUFFIXES)}. Received {path!r}."
            )
        return found


def _paths(files: object) -> tuple[str, ...]:
    if isinstance(files, str | os.PathLike):
        files = (files,)
    paths = tuple(files) if isinstance(files, Iterable) and not isinstance(files, bytes) else ()
    require(
        len(paths) > 0 and all(isinstance(path, str | os.PathLike) for path in paths),
        f"files must be one path or several. Received {files!r:.200}",
    )
    names = tuple(os.fspath(path) for path in paths)
    for name in names:
        require_utf8("files", name)
    return names


def require_utf8(what: str, path: str) -> None:
    """Check that a path is text: Arrow and JSON have no other.

    Raises:
        InputError: if it is not.
    """
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as fault:
        raise InputError(f"{what} must have a name in UTF-8. Received {path!r}.") from fault
