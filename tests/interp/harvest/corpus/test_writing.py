from __future__ import annotations

from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from interp import InputError
from interp.harvest.corpus import TokenStore
from interp.harvest.corpus.batches import TokenBatch
from interp.harvest.corpus.layout import Layout
from interp.harvest.corpus.writing import StoreWriter
from tests.interp.harvest.corpus.reference import (
    D_VOCAB,
    corpora,
    layouts,
    rows_of,
    sequences,
)


def _write(
    folder: Path,
    documents: list[list[int]],
    layout: Layout,
    cuts: list[int],
    shorten: bool = False,
    d_vocab: int = D_VOCAB,
) -> TokenStore:
    with StoreWriter(folder, layout, d_vocab) as writer:
        edges = sorted({0, *cuts, len(documents)})
        for begin, end in pairwise(edges):
            part = documents[begin:end]
            lengths = np.array([len(tokens) for tokens in part])
            tokens = np.array(list(chain(*part)), dtype=np.int64)
            places = list(range(10 * begin, 10 * end, 10))
            writer.append(TokenBatch(f"file {begin}", places, lengths, tokens, 1.0))
        writer.finish({"seed": 1}, shorten)
    return TokenStore.open(folder)


@settings(max_examples=40, deadline=None)
@given(corpora(), layouts(), st.lists(st.integers(0, 11), max_size=3))
@example([[1]], Layout(kind="packed", length=2, incomplete="pad"), [])
@example([[1, 2], [3]], Layout(kind="packed", length=3, separator=4), [])
def test_a_store_has_the_sequences_of_a_plain_loop(
    tmp_path_factory: pytest.TempPathFactory,
    documents: list[list[int]],
    layout: Layout,
    cuts: list[int],
) -> None:
    folder = tmp_path_factory.mktemp("store")
    cuts = [cut for cut in cuts if cut < len(documents)]
    expected = sequences(documents, layout)
    if not expected:
        with pytest.raises(InputError, match=r"must have at least one token|must fill a sequence"):
            _write(folder, documents, layout, cuts)
        assert not (folder / "store.json").exists()
        return
    store = _write(folder, documents, layout, cuts)
    assert rows_of(store.read(0, store.n_sequences)) == expected
    assert (store.length, len(store)) == (layout.length, len(expected))
    assert (store.n_documents, store.n_tokens) == (len(documents), sum(map(len, documents)))
    n_read = sum(document >= 0 for row in expected for _, _, document, _ in row)
    assert store.n_left_out == store.n_tokens - n_read
    table = store.documents
    assert table["n_tokens"].tolist() == [len(tokens) for tokens in documents]
    assert table["place"].tolist() == [10 * i for i in range(len(documents))]
    begins = [max(edge for edge in (0, *cuts) if edge <= i) for i in range(len(documents))]
    assert table["file"].tolist() == [f"file {begin}" for begin in begins]
    assert store.made_from == {"seed": 1}
    assert store.damaged() == []


@pytest.mark.parametrize(("d_vocab", "dtype"), [(65_536, np.uint16), (65_537, np.uint32)])
def test_the_largest_token_is_kept(tmp_path: Path, d_vocab: int, dtype: type) -> None:
    layout = Layout(kind="packed", length=2)
    store = _write(tmp_path, [[d_vocab - 1, 0]], layout, [], d_vocab=d_vocab)
    assert store.read(0, 1).tokens.tolist() == [[d_vocab - 1, 0]]
    assert np.load(tmp_path / "tokens.npy").dtype == dtype


@pytest.mark.parametrize(("longest", "expected"), [(3, 5), (4, 6), (9, 6)])
def test_sequences_may_be_as_short_as_the_longest_document(
    tmp_path: Path, longest: int, expected: int
) -> None:
    layout = Layout(kind="padded", length=6, prefix=(1,), suffix=(2,), pad=3)
    store = _write(tmp_path, [[7], [8] * longest], layout, [], shorten=True)
    assert store.length == expected
    assert store.n_left_out == max(0, longest - 4)
    assert store.read(0, 1).tokens.tolist() == [[1, 7, 2] + [3] * (expected - 3)]


def test_the_digest_is_of_tokens_and_layout(tmp_path: Path) -> None:
    layout, other = (Layout(kind="packed", length=length) for length in (2, 3))
    digests = []
    for number, (documents, chosen, cuts) in enumerate(
        [
            ([[1, 2], [3]], layout, []), ([[1, 2], [3]], layout, [1]),  # the same
            ([[1], [2, 3]], layout, []), ([[1, 2], [4]], layout, []), ([[1, 2], [3]], other, []),
        ]
    ):  # fmt: skip
        folder = tmp_path / str(number)
        folder.mkdir()
        digests.append(_write(folder, documents, chosen, cuts).digest)
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4


def test_many_documents_are_one_table(tmp_path: Path) -> None:
    documents = [[1]] * 70_000
    cuts = list(range(0, 70_000, 1000))
    store = _write(tmp_path, documents, Layout(kind="packed", length=7), cuts)
    table = store.documents
    assert len(table) == 70_000
    assert table["place"].tolist() == list(range(0, 700_000, 10))
    assert table["file"].iloc[[999, 1000, 69_999]].tolist() == ["file 0", "file 1000", "file 69000"]
