import shutil

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analyses import AnalysisResult
from analyses.results import table_limits
from analyses.results.storage import save
from analyses.results.table_limits import require_modest
from interp.errors import InputError


def write(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def test_tables_of_results_are_modest(tmp_path):
    require_modest(write(tmp_path / "a.parquet", x=[1.0] * 10_000, token=["a"] * 10_000))
    require_modest(write(tmp_path / "b.parquet", x=pa.array([], pa.float64())))
    require_modest(write(tmp_path / "c.parquet", x=[True], y=pa.nulls(1), z=pa.array([1], "u1")))


def test_a_small_file_of_many_rows_is_refused(tmp_path):
    n = table_limits.MOST_CELLS + 1
    path = write(tmp_path / "a.parquet", x=pa.repeat(pa.scalar(1, pa.int8()), n))
    assert path.stat().st_size < 2_000_000
    with pytest.raises(InputError, match=r"a\.parquet must have at most 50000000 cells. It has"):
        require_modest(path)


@pytest.mark.parametrize("dictionary", [True, False])
def test_a_long_text_many_times_is_refused_before_it_is_unpacked(tmp_path, dictionary, monkeypatch):
    assert table_limits.MOST_BYTES == 2**30
    monkeypatch.setattr(table_limits, "MOST_BYTES", 10**8)
    texts = pa.repeat(pa.scalar("x" * 200_000), 1).take(pa.array([0] * 600))
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"t": texts}), path, use_dictionary=dictionary, compression="zstd",
        row_group_size=20,
    )  # fmt: skip
    assert path.stat().st_size < 2_000_000
    with pytest.raises(InputError, match=r"a\.parquet must unpack to at most 100000000 bytes"):
        require_modest(path)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[0] * 10**6]),
        pa.array([["x"]]),
        pa.array([{"x": "y"}]),
        pa.array([b"x" * 100], pa.binary(100)),
        pa.array([b"x"]),
        pa.array(["x"]).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
def test_what_no_table_of_a_result_has_is_not_unpacked(tmp_path, column):
    """A list in one cell can be of any length, and each of many cells as wide as a file says."""
    with pytest.raises(InputError, match=r"must have columns of texts, numbers or bools. 'a' is"):
        require_modest(write(tmp_path / "a.parquet", a=column))


def test_bytes_of_texts_are_counted_as_python_counts_them(tmp_path, monkeypatch):
    texts = ["é漢"[: i % 3] * (i % 7) for i in range(500)]
    path = write(tmp_path / "a.parquet", t=texts, u=texts[::-1])
    expected = 2 * sum(len(text.encode()) for text in texts)
    assert table_limits._text_bytes(path, ["t", "u"]) == expected
    monkeypatch.setattr(table_limits, "MOST_BYTES", expected)
    with pytest.raises(InputError, match="must unpack to at most"):
        require_modest(path)


def test_a_saved_result_is_held_to_it(make_result, tmp_path, monkeypatch):
    run = save(make_result(), tmp_path / "run", pictures=False)
    AnalysisResult.load(run)
    monkeypatch.setattr(table_limits, "MOST_CELLS", 3)
    monkeypatch.setattr(pd, "read_parquet", lambda path: pytest.fail("it was read"))
    with pytest.raises(InputError, match=r"\.parquet must have at most 3 cells"):
        AnalysisResult.load(run)
    shutil.rmtree(run)
