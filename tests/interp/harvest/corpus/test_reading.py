from __future__ import annotations

from itertools import chain

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.harvest.corpus import TokenBlock
from interp.harvest.corpus.layout import Layout
from interp.harvest.corpus.reading import Reader
from tests.interp.harvest.corpus.reference import corpora, layouts, rows_of, sequences


def _reader(documents: list[list[int]], layout: Layout) -> Reader:
    lengths = np.array([len(tokens) for tokens in documents])
    starts, places = (
        np.concatenate([[0], np.cumsum(sizes)]) for sizes in (lengths, layout.spans(lengths))
    )
    return Reader(layout, np.array(list(chain(*documents)), dtype=np.uint16), starts, places)


@settings(deadline=None)
@given(corpora(), layouts(), st.data())
def test_every_entry_is_that_of_a_plain_loop(
    documents: list[list[int]], layout: Layout, data: st.DataObject
) -> None:
    expected = sequences(documents, layout)
    reader = _reader(documents, layout)
    assert layout.n_sequences(int(reader.places[-1])) == len(expected)
    if not expected:
        return
    start = data.draw(st.integers(0, len(expected) - 1))
    stop = data.draw(st.integers(start + 1, len(expected)))
    found = reader.read(start, stop)
    arrays = (found.tokens, found.real, found.document, found.document_position)
    assert rows_of(TokenBlock(*map(torch.from_numpy, arrays))) == expected[start:stop]


def test_a_packed_corpus_by_hand() -> None:
    layout = Layout(kind="packed", length=4, prefix=(9,), separator=8, pad=0, incomplete="pad")
    found = _reader([[1, 2], [], [3, 4, 5]], layout).read(0, 2)
    assert found.tokens.tolist() == [[9, 1, 2, 8], [9, 3, 4, 5]]
    assert found.document.tolist() == [[-1, 0, 0, -1], [-1, 2, 2, 2]]
    assert found.document_position.tolist() == [[-1, 0, 1, -1], [-1, 0, 1, 2]]
    assert found.real.all()


def test_padded_documents_by_hand() -> None:
    layout = Layout(kind="padded", length=5, prefix=(9,), suffix=(8,), pad=7, overlong="split")
    found = _reader([[1, 2, 3, 4], [5]], layout).read(0, 3)
    assert found.tokens.tolist() == [[9, 1, 2, 3, 8], [9, 4, 8, 7, 7], [9, 5, 8, 7, 7]]
    assert found.real.sum(1).tolist() == [5, 3, 3]
    assert found.document_position.tolist()[1] == [-1, 3, -1, -1, -1]
