"""Names of runs."""

from __future__ import annotations

import pytest

from dashboards.runs.names import MAX_RUN_NAME, free_name, require_run_name, run_name
from interp import InputError


def test_a_run_is_called_by_its_analysis_and_the_end_of_its_model():
    assert run_name("head-scores", "zoo:induction") == "head-scores-induction"
    assert run_name("head-scores", "/models/a b/") == "head-scores-a-b"
    assert run_name("intro", None) == "intro"
    assert run_name("head-scores", "../<b>🙂") == "head-scores-b"
    for model in ("x" * 500, "…" * 500, "-.-", ""):
        require_run_name(run_name("head-scores", model))


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b", "x" * 101, "a\n", "é"])
def test_a_name_is_that_of_a_plain_directory(name):
    with pytest.raises(InputError, match="a run's name takes letters"):
        require_run_name(name)


def test_a_taken_name_gets_a_number_and_stays_short_enough(tmp_path):
    long = "x" * MAX_RUN_NAME
    for name in ("a", "a-2", long):
        (tmp_path / name).mkdir()
    assert free_name(tmp_path, "a") == "a-3"
    assert free_name(tmp_path, "b") == "b"
    assert free_name(tmp_path, long) == "x" * (MAX_RUN_NAME - 2) + "-2"
