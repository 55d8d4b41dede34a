import pandas as pd
import pytest

from interp import InputError
from interp.training import History


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_written_table_reads_back(tmp_path, suffix):
    history = History()
    history.add(0, loss=1.5, lr=0.1)
    history.add(10, loss=0.5, lr=None, accuracy=0.25)
    file = history.write(tmp_path / "new" / f"history.{suffix}")
    read = pd.read_csv(file) if suffix == "csv" else pd.read_parquet(file)
    assert read["step"].tolist() == [0, 10]
    assert read["accuracy"].isna().tolist() == [True, False]
    pd.testing.assert_frame_equal(read, history.frame())


def test_rows_before_a_step():
    history = History([{"step": 0}, {"step": 5}, {"step": 10}])
    assert [row["step"] for row in history.before(10).rows] == [0, 5]
    assert len(history) == 3


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"must be a .csv or a .parquet file. Received 'h.json'"):
        History().write(tmp_path / "h.json")
