"""The list of saved runs, from their directories alone."""

from __future__ import annotations

import json
import os
import shutil

import pandas as pd
import pytest

from analyses import AnalysisResult, Check
from analyses.results import storage
from analyses.results.provenance import collect
from dashboards.runs import saved
from interp import InputError


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A saved result, to be copied."""
    table = pd.DataFrame({"value": [1.0, 2.0]})
    checks = [Check("holds", 0.0, 1.0), Check("fails", 2.0, 1.0)]
    result = AnalysisResult("look", "?", {"values": table}, {}, checks, collect(None))
    return storage.save(result, tmp_path_factory.mktemp("one") / "run", pictures=False)


@pytest.fixture
def runs(tmp_path, one):
    shutil.copytree(one, tmp_path / "runs" / "a")
    return tmp_path / "runs"


def edit(run, change):
    document = json.loads((run / "result.json").read_text())
    change(document)
    (run / "result.json").write_text(json.dumps(document))


def test_the_list_reads_no_table_and_no_run_twice(runs, one, monkeypatch):
    def never(*_):
        raise AssertionError("no table is to be read")

    looked = []
    monkeypatch.setattr(pd, "read_parquet", never)
    monkeypatch.setattr(saved, "look", lambda run: looked.append(run.name) or storage.look(run))
    shutil.copytree(one, runs / "b")
    (first, second) = saved.find(runs)
    assert (first.name, first.analysis, first.checks, first.failed) == ("a", "look", 2, 1)
    assert (second.name, second.created[-4:]) == ("b", " UTC")
    saved.find(runs)
    assert looked == ["a", "b"]
    edit(runs / "b", lambda document: document.update(name="other"))
    assert [run.analysis for run in saved.find(runs)] == ["look", "other"]
    assert looked == ["a", "b", "b"]


def test_a_run_is_read_again_when_its_table_is_another_of_the_same_size_and_time(runs):
    assert saved.load(runs, "a").tables["values"]["value"].tolist() == [1.0, 2.0]
    path = runs / "a" / "tables" / "values.parquet"
    before = path.stat()
    pd.DataFrame({"value": [1.0, 3.0]}).to_parquet(path, index=False)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert saved.load(runs, "a").tables["values"]["value"].tolist() == [1.0, 3.0]


def test_a_result_in_the_directory_of_runs_itself_hides_no_other(runs, one):
    shutil.copytree(one, runs, dirs_exist_ok=True)
    assert sorted(run.name for run in saved.find(runs)) == [".", "a"]
    assert saved.load(runs, ".").name == "look"


def test_runs_within_runs_hidden_ones_and_links_are_not_listed(runs, one, tmp_path):
    for name in ("a/inner", ".hidden", "deep/b"):
        shutil.copytree(one, runs / name)
    (runs / "link").symlink_to(tmp_path, target_is_directory=True)
    assert sorted(run.name for run in saved.find(runs)) == ["a", "deep/b"]


def test_a_time_of_another_zone_at_the_end_of_time_is_told(runs):
    created = "0001-01-01T00:00:00+14:00"
    edit(runs / "a", lambda document: document["provenance"].update(created=created))
    (run,) = saved.find(runs)
    assert not run.fault and run.created.endswith(" 00:00:00 +14:00")


def test_a_run_that_is_gone_and_one_without_tables_are_told(runs):
    shutil.rmtree(runs / "a" / "tables")
    (run,) = saved.find(runs)
    assert "tables" in run.fault
    for name in ("a", "gone"):
        with pytest.raises(InputError, match=f"{name} cannot be read: .*No such file"):
            saved.load(runs, name)


def test_a_name_that_is_not_utf8_is_shown_as_its_bytes(runs):
    (runs / "a").rename(os.fsdecode(os.fsencode(runs) + b"/\xff"))
    (run,) = saved.find(runs)
    assert run.name == "\\udcff" and "not UTF-8" in run.fault


def test_there_is_a_limit_to_the_list(runs, one, monkeypatch):
    monkeypatch.setattr(saved, "MOST_RUNS", 2)
    for name in ("b", "c"):
        shutil.copytree(one, runs / name)
    assert len(saved.find(runs)) == 2
