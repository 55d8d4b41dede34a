"""What sequences of a corpus should be, made entry by entry in plain Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from hypothesis import strategies as st

from interp.harvest.corpus import TokenBlock
from interp.harvest.corpus.layout import Layout

Entry = tuple[int, bool, int, int]
"""Token, whether it is real, its document, its place there."""

D_VOCAB = 31


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Layouts of short sequences, with room for at least one token."""
    token = st.integers(0, D_VOCAB - 1)
    prefix, suffix = (tuple(draw(st.lists(token, max_size=2))) for _ in range(2))
    kind = draw(st.sampled_from(["packed", "padded"]))
    return Layout(
        kind=kind,
        length=len(prefix) + len(suffix) + draw(st.integers(1, 6)),
        prefix=prefix,
        suffix=suffix,
        separator=draw(st.none() | token) if kind == "packed" else None,
        pad=draw(token),
        incomplete=draw(st.sampled_from(["drop", "pad"])),
        overlong=draw(st.sampled_from(["cut", "split"])),
    )


def corpora() -> st.SearchStrategy[list[list[int]]]:
    """Documents, some of them empty."""
    return st.lists(st.lists(st.integers(0, D_VOCAB - 1), max_size=14), min_size=1, max_size=12)


def sequences(documents: Sequence[Sequence[int]], layout: Layout) -> list[list[Entry]]:
    """All sequences of these documents."""
    prefix, suffix = (
        [(token, True, -1, -1) for token in tokens] for tokens in (layout.prefix, layout.suffix)
    )
    rows = []
    for body in _bodies(documents, layout):
        row = [*prefix, *body, *suffix]
        rows.append(row + [(layout.pad, False, -1, -1)] * (layout.length - len(row)))
    return rows


def _bodies(documents: Sequence[Sequence[int]], layout: Layout) -> Iterator[list[Entry]]:
    room = layout.length - len(layout.prefix) - len(layout.suffix)
    entries = [
        [(token, True, number, place) for place, token in enumerate(tokens)]
        for number, tokens in enumerate(documents)
    ]
    if layout.kind == "padded":
        for document in entries:
            pieces = [document[at : at + room] for at in range(0, len(document), room)]
            yield from pieces if layout.overlong == "split" else pieces[:1]
        return
    stream: list[Entry] = []
    for document in entries:
        if document and stream and layout.separator is not None:
            stream.append((layout.separator, True, -1, -1))
        stream += document
    for at in range(0, len(stream), room):
        body = stream[at : at + room]
        if len(body) == room or layout.incomplete == "pad":
            yield body


def rows_of(block: TokenBlock) -> list[list[Entry]]:
    """A block in the same form."""
    real = torch.ones_like(block.tokens) if block.real is None else block.real
    columns = (block.tokens, real.bool(), block.document, block.document_position)
    return [
        list(zip(*(column[i].tolist() for column in columns), strict=True))
        for i in range(len(block.tokens))
    ]
