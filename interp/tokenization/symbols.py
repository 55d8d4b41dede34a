"""Symbols of a byte-pair encoding: their neighbours, and how traces of merges are written."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

Pair = tuple[str, str]
Symbols = tuple[str, ...]


def pairs_of(symbols: Sequence[str]) -> Iterable[Pair]:
    """Each two neighbours."""
    return itertools.pairwise(symbols)


def line_of(words: Iterable[Symbols], end: str = "") -> str:
    """Words in one line, their symbols apart."""
    return " | ".join(" ".join(symbols) for symbols in words) + end


def columns(lines: list[str], notes: list[str]) -> str:
    """Lines, each with its note to the right."""
    width = max(map(len, lines))
    return "\n".join(
        f"{line:<{width}}   {note}".rstrip() for line, note in zip(lines, notes, strict=True)
    )
