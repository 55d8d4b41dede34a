"""The documents of a corpus as tokens, many at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64

from interp.errors import InputError
from interp.harvest.corpus.document import Document
from interp.harvest.corpus.settings import CorpusSettings
from interp.harvest.corpus.sources import documents, files_of
from interp.harvest.corpus.tokenizing import encode

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

# A batch is full with so many documents, or so many characters or tokens.
_MOST_DOCUMENTS = 1024
_MOST_CONTENT = 1 << 20


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Some documents of one file.

    Attributes:
        path: The file.
        places: Each document's place in it.
        lengths: Each document's number of tokens.
        tokens: Of all of them, one after another.
        done: How much of the corpus is read with it, 0 to 1.
    """

    path: str
    places: list[int]
    lengths: Int64[np.ndarray, "document"]
    tokens: Int64[np.ndarray, "token"]
    done: float


def token_batches(
    settings: CorpusSettings, model: HookedTransformer, are_tokens: bool
) -> Iterator[TokenBatch]:
    """All documents of a corpus, up to the most that its settings ask for.

    Args:
        settings: The corpus.
        model: Whose tokenizer makes tokens of texts.
        are_tokens: Whether documents are tokens already.

    Raises:
        InputError: if a document cannot be read or is not what the first is, or for a token that
            the model does not know.
    """
    n_documents = n_tokens = 0
    for path, found, done in _batches(settings):
        if settings.max_documents is not None:
            found = found[: settings.max_documents - n_documents]
        where = [f"{path}:{document.place}" for document in found]
        rows = _rows(found, where, model, are_tokens)
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        tokens = _joined(rows, where, model.cfg.d_vocab)
        if settings.max_tokens is not None and n_tokens + len(tokens) >= settings.max_tokens:
            lengths = _cut(lengths, settings.max_tokens - n_tokens)
            tokens = tokens[: lengths.sum()]
        n_documents, n_tokens = n_documents + len(lengths), n_tokens + len(tokens)
        done = max(
            done,
            n_documents / (settings.max_documents or np.inf),
            n_tokens / (settings.max_tokens or np.inf),
        )
        places = [document.place for document in found[: len(lengths)]]
        yield TokenBatch(path, places, lengths, tokens, done)
        if n_documents == settings.max_documents or n_tokens == settings.max_tokens:
            return


def _batches(settings: CorpusSettings) -> Iterator[tuple[str, list[Document], float]]:
    """Documents of one file each time, and how much of the corpus is read with them."""
    sizes = [sum(map(os.path.getsize, files_of(path, settings))) for path in settings.files]
    before = 0
    for path, size in zip(settings.files, sizes, strict=True):
        found: list[Document] = []
        content = 0
        for document in documents(settings, path):
            found.append(document)
            content += len(document.content)
            if len(found) == _MOST_DOCUMENTS or content >= _MOST_CONTENT:
                yield path, found, (before + size * document.done) / sum(sizes)
                found, content = [], 0
        before += size
        if found:
            yield path, found, before / sum(sizes)


def _rows(
    found: Sequence[Document], where: Sequence[str], model: HookedTransformer, are_tokens: bool
) -> Sequence[Any]:
    """Each document's tokens, as a list or an array."""
    for document, place in zip(found, where, strict=True):
        if isinstance(document.content, str) == are_tokens:
            kinds = ("tokens", "a text") if are_tokens else ("texts", "tokens")
            raise InputError(
                f"{place}: documents must be {kinds[0]} throughout, as the first is. "
                f"Received {kinds[1]}."
            )
    contents: list[Any] = [document.content for document in found]
    return contents if are_tokens else encode(model.tokenizer, contents, where=where.__getitem__)


def _joined(rows: Sequence[Any], where: Sequence[str], d_vocab: int) -> Int64[np.ndarray, "token"]:
    try:
        tokens = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
        fits = not tokens.size or (tokens.min() >= 0 and tokens.max() < d_vocab)
    except OverflowError:  # JSON's numbers may be of any size
        fits = False
    if fits:
        return tokens
    outside = (
        (place, token)
        for row, place in zip(rows, where, strict=True)
        for token in row
        if not 0 <= token < d_vocab
    )
    place, token = next(outside)
    raise InputError(f"{place}: tokens must lie in 0 … {d_vocab - 1}. Received {token}.")


def _cut(lengths: Int64[np.ndarray, "document"], most: int) -> Int64[np.ndarray, "document"]:
    """The documents with the first `most` tokens, the last of them cut."""
    ends = np.cumsum(lengths)
    n = int(np.searchsorted(ends, most)) + 1
    cut = lengths[:n].copy()
    cut[-1] -= ends[n - 1] - most
    return cut
