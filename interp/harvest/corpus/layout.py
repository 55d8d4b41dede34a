"""How the tokens of documents are put into sequences: arithmetic alone.

A sequence is `prefix`, then up to `room` tokens, then `suffix`, then padding up to `length`.
Packed, all documents make one stream, with a separator between any two of them, and sequence i has
the stream's tokens from `i · room` on. Padded, each document has sequences of its own. A document
without tokens has no part in either.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
from jaxtyping import Int64

from interp.errors import is_whole, require
from interp.harvest.corpus.settings import LayoutName


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What every sequence of a corpus is like.

    Attributes:
        kind: Packed or padded.
        length: Tokens of a sequence.
        prefix: Tokens that it begins with (BOS).
        suffix: Tokens that follow the document's.
        separator: Token between packed documents; None: none.
        pad: Token that fills up a sequence.
        incomplete: What becomes of a last packed sequence that is not full.
        overlong: What becomes of a padded document that is too long.
    """

    kind: LayoutName
    length: int
    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()
    separator: int | None = None
    pad: int = 0
    incomplete: Literal["drop", "pad"] = "drop"
    overlong: Literal["cut", "split"] = "cut"

    @property
    def room(self) -> int:
        """Tokens of a sequence that are not special."""
        return self.length - len(self.prefix) - len(self.suffix)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "prefix": list(self.prefix), "suffix": list(self.suffix)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """From what `to_dict` gave.

        Raises:
            InputError: for other values; and what Python raises for other fields.
        """
        special = {name: tuple(fields[name]) for name in ("prefix", "suffix")}
        found = cls(**{**fields, **special})
        separator = () if found.separator is None else (found.separator,)
        tokens = (*found.prefix, *found.suffix, *separator, found.pad)
        require(
            all(is_whole(token, 0) and token < 2**31 for token in (*tokens, found.length))
            and found.room >= 1
            and found.kind in ("packed", "padded")
            and found.incomplete in ("drop", "pad")
            and found.overlong in ("cut", "split"),
            f"a layout must be of sequences with room for a token. Received {fields!r:.300}",
        )
        return found

    def digest(self, sha256: Mapping[str, str]) -> str:
        """A hash (sha256, hex) of sequences like this, from those of the arrays with the tokens."""
        decided = json.dumps([self.to_dict(), sha256], sort_keys=True)
        return hashlib.sha256(decided.encode()).hexdigest()

    def spans(self, lengths: Int64[np.ndarray, "document"]) -> Int64[np.ndarray, "document"]:
        """What documents of these lengths take up, one after another.

        Packed: entries of the stream, a separator after each document included (the one after the
        last is none). Padded: sequences.
        """
        if self.kind == "packed":
            return lengths + (lengths > 0) * (self.separator is not None)
        n_rows = -(-lengths // self.room)
        return n_rows if self.overlong == "split" else np.minimum(n_rows, 1)

    def n_sequences(self, taken: int) -> int:
        """How many sequences there are where all documents together take up so much."""
        if self.kind == "padded":
            return taken
        stream = self.stream_length(taken)
        return -(-stream // self.room) if self.incomplete == "pad" else stream // self.room

    def stream_length(self, taken: int) -> int:
        """Entries of the packed stream, without a separator after the last document."""
        return max(0, taken - (self.separator is not None))
