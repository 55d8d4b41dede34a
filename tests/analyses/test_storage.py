import json
import os

import pandas as pd
import pytest

pytest.importorskip("seaborn", reason="needs the extra 'plots'")

from analyses import AnalysisResult
from analyses.storage import require_replaceable, save
from interp.errors import InputError


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def saved(make_result, tmp_path):
    return make_result().save(tmp_path / "runs" / "demo")


def test_round_trip_is_exact(make_result, tmp_path):
    result = make_result()
    again = AnalysisResult.load(result.save(tmp_path / "run"))
    assert list(again.tables) == list(result.tables)
    for name, table in result.tables.items():
        pd.testing.assert_frame_equal(again.tables[name], table, check_exact=True)
    assert again.figures == result.figures
    assert again.provenance == result.provenance
    assert again.checks[0] == result.checks[0]
    assert again.checks[1].value != again.checks[1].value  # NaN came back as NaN
    assert (again.name, again.question) == (result.name, result.question)


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["x", "y"], dtype=object),
        pd.Series([1, 2], dtype=object),
        pd.Series([1, None], dtype="Int64"),
        pd.Series([1.5, 2.5], dtype="float16"),
        pd.Series(["x", None], dtype="string"),
        pd.Series([2**63, 1], dtype="uint64"),
    ],
    ids=lambda column: str(column.dtype),
)
def test_unusual_dtypes_come_back(make_result, tmp_path, column):
    result = make_result(tables={"t": pd.DataFrame({"a": column})}, figures={})
    again = AnalysisResult.load(result.save(tmp_path / "run"))
    pd.testing.assert_frame_equal(again.tables["t"], result.tables["t"])


def test_empty_table_comes_back(make_result, tmp_path):
    empty = pd.DataFrame({"a": pd.Series([], dtype="int64"), "b": pd.Series([], dtype="float32")})
    result = make_result(tables={"t": empty}, figures={})
    again = AnalysisResult.load(result.save(tmp_path / "run"))
    pd.testing.assert_frame_equal(again.tables["t"], empty)


def test_directory_holds_what_others_can_read(saved):
    found = {str(path.relative_to(saved)) for path in saved.rglob("*") if path.is_file()}
    assert found == {
        "result.json",
        "report.html",
        "tables/scores.parquet",
        "tables/small.parquet",
        "figures/scores.svg",
        "figures/scores.png",
    }
    document = json.loads((saved / "result.json").read_text(), parse_constant=pytest.fail)
    assert [check["passed"] for check in document["checks"]] == [True, False]
    assert os.listdir(saved.parent) == ["demo"]


def test_an_older_result_is_replaced_whole(make_result, saved):
    (saved / "left-over").touch()
    make_result(question="Again?").save(saved)
    assert AnalysisResult.load(saved).question == "Again?"
    assert not (saved / "left-over").exists()


def test_an_empty_directory_is_used(make_result, tmp_path):
    assert AnalysisResult.load(make_result().save(tmp_path)).name == "demo"


def test_a_foreign_directory_is_left_alone(make_result, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match="not empty and not a saved result"):
        make_result().save(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_file_in_the_way_is_left_alone(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(InputError, match="is a file"):
        require_replaceable(tmp_path / "run")


def test_a_failed_save_keeps_the_older_result(make_result, saved, monkeypatch):
    def fail(*_):
        raise RuntimeError("no ink")

    monkeypatch.setattr("interp.charts.export.png", fail)
    with pytest.raises(RuntimeError, match="no ink"):
        make_result(question="Again?").save(saved)
    assert AnalysisResult.load(saved).question == "Which <layer> scores?"
    assert os.listdir(saved.parent) == ["demo"]


def test_loading_nothing(tmp_path):
    with pytest.raises(InputError, match=r"is not a saved result: .*result\.json does not exist"):
        AnalysisResult.load(tmp_path / "absent")


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_other_schema_versions_are_refused(saved, version):
    edit_json(saved / "result.json", schema_version=version)
    with pytest.raises(InputError, match=rf"result\.json has schema version {version}; .* reads 1"):
        AnalysisResult.load(saved)


def test_damaged_json_is_named(saved):
    text = (saved / "result.json").read_text()
    (saved / "result.json").write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match=r"result\.json is damaged"):
        AnalysisResult.load(saved)


def test_json_of_another_shape_is_named(saved):
    (saved / "result.json").write_text("[]")
    with pytest.raises(InputError, match=r"result\.json has schema version None"):
        AnalysisResult.load(saved)


def test_wrong_contents_are_named(saved):
    edit_json(saved / "result.json", checks=[{"name": "c", "value": "many", "tolerance": 1}])
    with pytest.raises(InputError, match=r"result\.json is damaged: checks\.0\.value"):
        AnalysisResult.load(saved)


def test_a_missing_table_is_named(saved):
    (saved / "tables" / "small.parquet").unlink()
    with pytest.raises(InputError, match=r"small\.parquet does not exist"):
        AnalysisResult.load(saved)


@pytest.mark.parametrize("keep", [0, 200, -1])
def test_a_damaged_table_is_named(saved, keep):
    path = saved / "tables" / "small.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"small\.parquet is damaged"):
        AnalysisResult.load(saved)


def test_a_swapped_table_is_named(saved):
    path = saved / "tables" / "small.parquet"
    pd.DataFrame({"other": [1]}).to_parquet(path)
    with pytest.raises(InputError, match=r"small\.parquet has 1 rows of other"):
        AnalysisResult.load(saved)


def test_without_pictures_the_same_comes_back(make_result, tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError("nothing is to be drawn")

    monkeypatch.setattr("interp.charts.mpl.draw", never)
    result = make_result()
    directory = save(result, tmp_path / "run", pictures=False)
    assert {path.name for path in directory.iterdir()} == {"result.json", "tables"}
    again = AnalysisResult.load(directory)
    assert again.figures == result.figures and again.checks[0] == result.checks[0]
    for name, table in result.tables.items():
        pd.testing.assert_frame_equal(again.tables[name], table)
