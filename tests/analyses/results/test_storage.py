import json
import os
import shutil

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("seaborn", reason="needs the extra 'plots'")

from analyses import AnalysisResult
from analyses.results.storage import look, require_replaceable, save
from interp.errors import InputError


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture(scope="module")
def drawn(make_result, tmp_path_factory):
    """A saved result, to be copied."""
    return make_result().save(tmp_path_factory.mktemp("drawn") / "demo")


@pytest.fixture
def saved(drawn, tmp_path):
    return shutil.copytree(drawn, tmp_path / "runs" / "demo")


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
    with pytest.raises(InputError, match=r"result\.json must hold a JSON object"):
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


# --- what others wrote ---------------------------------------------------------------------------


def change(run, where, value):
    """Put a value into `result.json`, at a path of keys."""
    document = json.loads((run / "result.json").read_text())
    *path, last = where
    part = document
    for key in path:
        part = part[key]
    part[last] = value
    (run / "result.json").write_text(json.dumps(document))


HOSTILE = {
    "a number that is a list": (["checks", 0, "value"], []),
    "a number without an end": (["checks", 0, "value"], 10**400),
    "no checks": (["checks"], []),
    "a table elsewhere": (["tables", "../../up"], {"rows": 0, "columns": {}}),
    "a table anywhere": (["tables", "/etc/passwd"], {"rows": 0, "columns": {}}),
    "a long name": (["tables", "a" * 5000], {"rows": 0, "columns": {}}),
    "a name that is no text": (["figures", "\ud800"], {}),
    "a result elsewhere": (["name"], "../x"),
    "no dtype": (["tables", "small", "columns", "score"], "no such"),
    "a dtype of long texts": (["tables", "small", "columns", "score"], "S1000000000"),
    "a dtype without an end": (["tables", "small", "columns", "score"], "(" * 200),
    "fewer rows than none": (["tables", "small", "rows"], -1),
    "a figure of no table": (["figures", "scores", "table"], "absent"),
    "a figure of no column": (["figures", "scores", "value"], "absent"),
    "a filter of no column": (["figures", "scores", "where"], {"absent": 1}),
    "lists within lists": (["provenance", "parameters", "n"], json.loads("[" * 500 + "]" * 500)),
}


@pytest.mark.parametrize(("where", "value"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_contents_are_told_in_a_line_that_names_the_file(saved, where, value):
    change(saved, where, value)
    for read in (AnalysisResult.load, look):
        with pytest.raises(InputError, match=r"result\.json is damaged: .") as fault:
            read(saved)
        told = str(fault.value)
        assert len(told) < 1000 and "\n" not in told
        told.encode()


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "1" * 5000, '{"schema_version": 1, "name": "a", "name": "b"}']
)
def test_hostile_json_is_named(saved, text):
    (saved / "result.json").write_text(text)
    with pytest.raises(InputError, match=r"result\.json is damaged: ."):
        AnalysisResult.load(saved)


def test_no_table_is_looked_for_before_its_name_is_checked(saved, monkeypatch):
    opened = []
    monkeypatch.setattr(pd, "read_parquet", lambda path: opened.append(path))
    outside = saved.parent / "up.parquet"
    shutil.copy(saved / "tables" / "small.parquet", outside)
    small = json.loads((saved / "result.json").read_text())["tables"]["small"]
    edit_json(saved / "result.json", tables={"../../up": small}, figures={})
    with pytest.raises(InputError, match="names of results, tables and figures"):
        AnalysisResult.load(saved)
    assert opened == []


@pytest.mark.parametrize("part", ["result.json", "tables", "tables/small.parquet"])
def test_links_that_lead_out_of_the_run_are_not_followed(saved, part):
    outside = saved.parent / "outside"
    (saved / part).rename(outside)
    (saved / part).symlink_to(outside)
    for read in (AnalysisResult.load, look):
        with pytest.raises(InputError, match=r"is a link that leads out of .*demo"):
            read(saved)


def test_a_link_to_a_whole_run_is_one(saved):
    link = saved.parent / "link"
    link.symlink_to(saved, target_is_directory=True)
    assert AnalysisResult.load(link).name == look(link).name == "demo"


@pytest.mark.parametrize("told", [b"{", b"[]", b'{"columns": 3, "index_columns": []}'])
def test_hostile_metadata_of_a_table_is_named(saved, told):
    path = saved / "tables" / "small.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata({"pandas": told}), path)
    with pytest.raises(InputError, match=r"small\.parquet is damaged"):
        AnalysisResult.load(saved)


@pytest.mark.parametrize(
    ("column", "claimed", "told"),
    [("layer", "str", "integer"), ("score", "bool", "floating"), ("token", "category", "string")],
)
def test_a_dtype_that_would_change_what_a_table_holds_is_refused(saved, column, claimed, told):
    change(saved, ["tables", "small", "columns", column], claimed)
    with pytest.raises(InputError, match=rf"small\.parquet holds {told} in '{column}'"):
        AnalysisResult.load(saved)


def test_two_columns_of_one_name_are_named(saved):
    path = saved / "tables" / "small.parquet"
    pq.write_table(pa.table([[1], [2]], names=["a", "a"]), path)
    with pytest.raises(InputError, match=r"small\.parquet"):
        AnalysisResult.load(saved)


def test_a_look_tells_what_a_result_says_without_reading_its_tables(saved, monkeypatch):
    def never(*_):
        raise AssertionError("no table is to be read")

    monkeypatch.setattr(pd, "read_parquet", never)
    document = look(saved)
    assert (document.name, document.tables["scores"].rows) == ("demo", 4)
    assert [check.passed for check in document.checks] == [True, False]
    path = saved / "tables" / "small.parquet"
    for damage, told in (
        (lambda: pd.DataFrame({"other": [1]}).to_parquet(path), "has 1 rows of other"),
        (lambda: path.write_bytes(b"PAR1"), r"small\.parquet is damaged"),
        (path.unlink, r"small\.parquet does not exist"),
    ):
        damage()
        with pytest.raises(InputError, match=told):
            look(saved)
