from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from interp import InputError
from interp.harvest.corpus.saved_dataset import dataset_documents, dataset_files

TEXTS = [f"text {i}" for i in range(2500)]


def _write_stream(path: Path, batches: Sequence[dict[str, Any]]) -> None:
    tables = [pa.table(batch) for batch in batches]
    with pa.ipc.new_stream(str(path), tables[0].schema) as stream:
        for table in tables:
            stream.write_table(table)


def _write_state(folder: Path, **fields: Any) -> str:
    (folder / "state.json").write_text(json.dumps(fields))
    return str(folder)


def _names(*names: str) -> list[dict[str, str]]:
    return [{"filename": name} for name in names]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A data set in two files of several batches."""
    _write_stream(tmp_path / "0.arrow", [{"text": TEXTS[:900]}, {"text": TEXTS[900:1000]}])
    _write_stream(tmp_path / "1.arrow", [{"text": TEXTS[1000:]}])
    _write_state(tmp_path, _data_files=_names("0.arrow", "1.arrow"))
    return tmp_path


def _texts(directory: Path) -> list[Any]:
    return [document.content for document in dataset_documents(str(directory), "text")]


def test_rows_of_all_files_are_documents(saved: Path) -> None:
    found = list(dataset_documents(str(saved), "text"))
    assert [x.content for x in found] == TEXTS
    assert [x.place for x in found] == list(range(2500))
    assert found[-1].done == 1.0
    assert dataset_files(str(saved)) == [
        saved / name for name in ("state.json", "0.arrow", "1.arrow")
    ]


@pytest.mark.parametrize("key", ["_indices_data_files", "_indices_files"])
def test_row_numbers_choose_and_order_the_rows(saved: Path, key: str) -> None:
    numbers = [2499, 0, 999, 1000, 900, 899, 899, *range(0, 2400, 2)]
    column = pa.array(numbers, pa.uint64())
    _write_stream(saved / "i.arrow", [{"indices": column[:3]}, {"indices": column[3:]}])
    _write_state(saved, _data_files=_names("0.arrow", "1.arrow"), **{key: _names("i.arrow")})
    found = list(dataset_documents(str(saved), "text"))
    assert [x.content for x in found] == [TEXTS[i] for i in numbers]
    assert [x.place for x in found] == list(range(len(numbers)))
    assert saved / "i.arrow" in dataset_files(str(saved))


def test_what_datasets_writes_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs Hugging Face's datasets")
    whole = datasets.Dataset.from_dict(
        {"text": TEXTS[:50], "tokens": [list(range(i)) for i in range(50)]}
    )
    for name, dataset in (("all", whole), ("some", whole.shuffle(seed=1).select(range(20)))):
        dataset.save_to_disk(str(tmp_path / name), num_shards=2)
        assert _texts(tmp_path / name) == list(dataset["text"])
        tokens = [list(x.content) for x in dataset_documents(str(tmp_path / name), "tokens")]
        assert tokens == list(dataset["tokens"])
    datasets.DatasetDict(train=whole, test=whole).save_to_disk(str(tmp_path / "splits"))
    with pytest.raises(InputError, match=r"must be one split of a data set. .*\(train, test\)"):
        _texts(tmp_path / "splits")
    assert _texts(tmp_path / "splits" / "test") == TEXTS[:50]


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must be a directory that Dataset.save_to_disk wrote"):
        _texts(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "must name data files. It names none"),
        ({"_data_files": "0.arrow"}, "_data_files in .* must be a list. Received '0.arrow'"),
        ({"_data_files": ["0.arrow"]}, "must be a list of {'filename': …}. Received '0.arrow'"),
        ({"_data_files": [{"filename": 3}]}, "Received {'filename': 3}"),
        ({"_data_files": [{"filename": "a\0b"}]}, "must be a list of {'filename'"),
        ({"_data_files": [{"filename": "0.arrow", "take": 5, "skip": 1}]}, "Received .*'take': 5"),
        ({"_data_files": _names("gone.arrow")}, "must name files that exist. .*'gone.arrow'"),
        ({"_data_files": _names(".")}, "must name files that exist"),
        ({"_data_files": _names("../b.arrow")}, "must name files inside .*'../b.arrow'"),
        ({"_data_files": _names("/etc/hostname")}, "must name files inside .*'/etc/hostname'"),
        ({"_data_files": _names("link.arrow")}, "must name files inside .*'link.arrow'"),
        (
            {"_data_files": _names("0.arrow"), "_indices_files": _names("../b.arrow")},
            "_indices_files in .* must name files inside",
        ),
    ],
)
def test_a_state_that_names_no_files_of_its_own_is_refused(
    saved: Path, tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    (saved / "0.arrow").rename(folder / "0.arrow")
    (saved / "1.arrow").rename(tmp_path / "b.arrow")
    (folder / "link.arrow").symlink_to(tmp_path / "b.arrow")
    _write_state(folder, **fields)
    for read in (_texts, lambda path: dataset_files(str(path))):
        with pytest.raises(InputError, match=message):
            read(folder)


@pytest.mark.parametrize("part", [0.001, 0.2, 0.6, 0.999])
def test_a_stream_that_is_cut_off_is_refused(saved: Path, part: float) -> None:
    whole = (saved / "0.arrow").read_bytes()
    (saved / "0.arrow").write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(InputError, match=r"0\.arrow (cannot be read|must end as)"):
        _texts(saved)


def test_a_stream_that_is_cut_between_batches_is_refused(saved: Path) -> None:
    whole = (saved / "0.arrow").read_bytes()
    (saved / "0.arrow").write_bytes(whole[:-8])  # the rest is a stream, and reads as one
    assert pa.ipc.open_stream(whole[:-8]).read_all().num_rows == 1000
    with pytest.raises(InputError, match=r"must end as an Arrow stream does. It is cut off"):
        _texts(saved)


def test_bytes_that_are_no_stream_are_refused(saved: Path) -> None:
    (saved / "0.arrow").write_bytes(b"no such thing" * 40)
    with pytest.raises(InputError, match=r"0.arrow cannot be read: "):
        _texts(saved)


def test_a_missing_column_is_refused(saved: Path) -> None:
    with pytest.raises(InputError, match=r"must have the column 'body'. It has 'text'"):
        list(dataset_documents(str(saved), "body"))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (pa.array([0, 2500]), r"must lie in 0 … 2499. Received 2500"),
        (pa.array([-1]), r"must lie in 0 … 2499. Received -1"),
        (pa.array([0, None]), r"must lie in 0 … 2499. Received None"),
        (pa.array([0.5]), "must be one column of whole numbers"),
    ],
)
def test_row_numbers_of_no_rows_are_refused(saved: Path, numbers: pa.Array, message: str) -> None:
    _write_stream(saved / "i.arrow", [{"indices": numbers}])
    _write_state(
        saved, _data_files=_names("0.arrow", "1.arrow"), _indices_data_files=_names("i.arrow")
    )
    with pytest.raises(InputError, match=message):
        _texts(saved)
