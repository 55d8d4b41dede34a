"""Where rows come from, against documents put into sequences by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from interp import InputError
from interp.harvest import ActivationDataset, CorpusSettings, harvest
from interp.harvest.indexing import RowOutOfRange
from interp.harvest.manifest import HookSpec
from interp.harvest.rows import RowPlace
from interp.harvest.shard_files import INDEX_COLUMNS
from tests.interp.harvest.written import write_dataset

HOOK = "blocks.1.hook_resid_post"
LENGTH = 8


@dataclass(frozen=True)
class Harvested:
    """A harvest of chosen documents, and what each of its rows must be of."""

    data: ActivationDataset
    model: Any
    sequences: list[list[int]]
    expected: list[tuple[int, int, int, int, int]]  # as INDEX_COLUMNS


@pytest.fixture(scope="module", params=["packed", "padded"])
def harvested(
    request: pytest.FixtureRequest,
    make_model: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Harvested:
    packed = request.param == "packed"
    folder = tmp_path_factory.mktemp(request.param)
    drawn = np.random.default_rng(0)
    lengths = [5, 1, 30, 3, 0, 12, 8, 2, 2, 9]
    documents = [drawn.integers(0, 31, n).tolist() for n in lengths]
    with (folder / "corpus.jsonl").open("w") as file:
        file.writelines(json.dumps({"ids": ids}) + "\n" for ids in documents)
    tagged = [
        (number, place, token) for number, ids in enumerate(documents)
        for place, token in enumerate(ids)
    ]  # fmt: skip
    if packed:
        cut = [tagged[i : i + LENGTH] for i in range(0, len(tagged) - LENGTH + 1, LENGTH)]
    else:
        each = [[entry for entry in tagged if entry[0] == n] for n in range(len(documents))]
        cut = [some[i : i + LENGTH] for some in each for i in range(0, len(some), LENGTH)]
    expected = [
        (document, place, sequence, position, token) for sequence, entries in enumerate(cut)
        for position, (document, place, token) in enumerate(entries)
    ]  # fmt: skip
    layout: dict[str, Any] = {"separator": "none"} if packed else {"overlong": "split"}
    corpus = CorpusSettings(
        files=(str(folder / "corpus.jsonl"),), column="ids", length=LENGTH,
        layout=request.param, **layout,
    )  # fmt: skip
    model = make_model()
    data = harvest(model, corpus, HOOK, folder / "set", shard_tokens=3 * LENGTH)
    return Harvested(data, model, [[token for _, _, token in some] for some in cut], expected)


def test_every_row(harvested: Harvested) -> None:
    data, expected = harvested.data, harvested.expected
    assert len(data) == len(data.rows) == len(expected)
    assert len(data.shards.receipts) > 2
    assert [tuple(data.rows[row]) for row in range(len(data))] == [
        (row, *place) for row, place in enumerate(expected)
    ]
    some = [-1, 3, 17, 3, 25]
    places = data.rows[some]
    for column, name in enumerate(INDEX_COLUMNS):
        wanted = [expected[row][column] for row in some]
        assert getattr(places, name).tolist() == wanted
        assert data.rows.column(name).tolist() == [place[column] for place in expected]
    assert places.row.tolist() == [len(data) - 1, 3, 17, 3, 25]
    assert data.rows[-1] == RowPlace(len(data) - 1, *expected[-1])
    assert data.rows[2:6].token.tolist() == [place[4] for place in expected[2:6]]
    assert len(data.rows[[]]) == 0


def test_activations_are_of_these_tokens(harvested: Harvested, assert_close: Any) -> None:
    """The row that the index names is the model's activation at that token."""
    for row in (0, 9, 20, len(harvested.data) - 1):
        place = harvested.data.rows[row]
        tokens = torch.tensor([harvested.sequences[place.sequence]])
        with torch.no_grad():
            _, cache = harvested.model.run_with_cache(tokens, names_filter=HOOK)
        assert_close(harvested.data[row], cache[HOOK][0, place.position])


def test_rows_of_documents(harvested: Harvested) -> None:
    documents = {place[0] for place in harvested.expected}
    for document in range(12):
        wanted = [row for row, place in enumerate(harvested.expected) if place[0] == document]
        assert harvested.data.rows.of_document(document).tolist() == wanted
    assert documents < set(range(10))  # document 4 has no tokens


def test_rows_of_documents_of_some_shards(harvested: Harvested) -> None:
    """With rows of no document, and shards without any, as sampling and BOS leave them."""
    lines = (harvested.data.directory / "journal.jsonl").read_text().splitlines(keepends=True)
    whole = (harvested.data.directory / "journal.jsonl").read_text()
    try:
        (harvested.data.directory / "journal.jsonl").write_text("".join(lines[1:]))
        data = ActivationDataset(harvested.data.directory, partial=True)
    finally:
        (harvested.data.directory / "journal.jsonl").write_text(whole)
    kept = harvested.expected[harvested.data.shards.starts[1] :]
    for document in range(12):
        wanted = [row for row, place in enumerate(kept) if place[0] == document]
        assert data.rows.of_document(document).tolist() == wanted


def test_shards_without_rows(harvested: Harvested, tmp_path: Path) -> None:
    store = harvested.data.tokens
    corpus = CorpusSettings(**store.made_from["settings"])
    model, sampled = harvested.model, {"shard_tokens": 2 * LENGTH, "sample": 0.05}
    names = ("moments", "quantiles", "covariance", "max_activating")
    data = harvest(model, corpus, HOOK, tmp_path / "set", statistics=names, **sampled)
    assert 0 in [receipt.rows for receipt in data.shards.receipts] and len(data) > 0
    documents = data.rows.column("document")
    for document in range(12):
        wanted = (documents == document).nonzero()[:, 0]
        assert torch.equal(data.rows.of_document(document), wanted)
    assert torch.equal(data.statistics().min, data[:].amin(0).double())


def test_context(harvested: Harvested) -> None:
    for row, place in enumerate(harvested.expected):
        context = harvested.data.rows.context(row, before=2, after=3)
        tokens = harvested.sequences[place[2]]
        start = max(place[3] - 2, 0)
        assert context.tokens.tolist() == tokens[start : place[3] + 4]
        assert context.tokens[context.at] == place[4]
        assert (context.sequence, context.start) == (place[2], start)
    assert harvested.data.rows.context(-1, 0, 0).texts(str) == [str(harvested.expected[-1][4])]


def test_the_corpus_is_there_too(harvested: Harvested) -> None:
    data = harvested.data
    assert data.tokens.n_sequences == len(harvested.sequences)
    assert data.documents["n_tokens"].tolist() == [5, 1, 30, 3, 0, 12, 8, 2, 2, 9]


def test_other_tokens_are_refused(harvested: Harvested) -> None:
    path = harvested.data.directory / "manifest.json"
    whole = path.read_text()
    try:
        document = json.loads(whole)
        document["tokens"]["digest"] = "f" * 64
        path.write_text(json.dumps(document))
        with pytest.raises(InputError, match="must hold the tokens that the rows were made from"):
            ActivationDataset(harvested.data.directory).rows.context(0)
    finally:
        path.write_text(whole)


def test_refusals(harvested: Harvested) -> None:
    rows = harvested.data.rows
    with pytest.raises(RowOutOfRange, match="Received 1000"):
        rows[1000]
    with pytest.raises(RowOutOfRange, match="Received 1000"):
        rows.context(1000)
    with pytest.raises(InputError, match="name must be one of 'document'"):
        rows.column("layer")
    with pytest.raises(InputError, match="before must be a whole number"):
        rows.context(0, before=-1)
    with pytest.raises(InputError, match="document must be a whole number"):
        rows.of_document(-1)


def _index(n: int = 3, **columns: Any) -> pa.Table:
    whole = {name: pa.array(np.arange(n)) for name in INDEX_COLUMNS}
    return pa.table(whole | columns)


@pytest.mark.parametrize(
    ("table", "rule"),
    [
        (_index(4), "must hold 3 rows of the int64 columns"),
        (_index(document=pa.array([1.0, 2, 3])), "must hold 3 rows of the int64 columns"),
        (_index(more=pa.array([1, 2, 3])), "must hold 3 rows of the int64 columns"),
        (_index(token=pa.array([1, None, 3])), "is damaged"),
        (None, "is damaged"),
    ],
)
def test_hostile_indices(tmp_path: Path, table: pa.Table | None, rule: str) -> None:
    made = write_dataset(tmp_path / "set", {"h": HookSpec((2,), torch.float16)}, [3])
    path = made.out / "shards/00000.rows.parquet"
    if table is None:
        path.write_bytes(b"PAR1 but not really")
    else:
        pq.write_table(table, path)
    line = json.loads((made.out / "journal.jsonl").read_text())
    line["files"]["rows"]["bytes"] = path.stat().st_size
    (made.out / "journal.jsonl").write_text(json.dumps(line) + "\n")
    data = ActivationDataset(made.out)
    assert torch.equal(data[:], made.rows["h"])
    with pytest.raises(InputError, match=rule):
        data.rows[0]
    with pytest.raises(InputError, match=rule):
        data.rows.column("token")
