"""What is measured in processes of its own."""

from __future__ import annotations

import pytest

from tests.covering import slow

pytest.importorskip("transformers", reason="needs the extra 'hf'")
from benchmarks import processes, shapes
from benchmarks.given import Given


@slow
def test_import_is_timed_in_a_fresh_process() -> None:
    (row,) = processes.import_times(1, ["interp"])
    assert row.problem == "" and len(row.milliseconds) == 1
    assert all(0 < milliseconds < 60_000 for milliseconds in row.milliseconds)


def test_a_package_that_is_missing_or_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes.import_times(1, ["a_package_that_nobody_has"]) == []
    monkeypatch.setattr(processes, "_IMPORT", "raise ValueError('no {package}')")
    (row,) = processes.import_times(1, ["interp"])
    assert row.problem == "ValueError: no interp" and row.milliseconds == []


@slow
def test_a_checkpoint_is_opened_in_a_fresh_process() -> None:
    shape = shapes.SMALL
    (row,) = processes.load_times(shape, "cpu", 1, ["interp"])
    assert row.problem == "" and row.milliseconds[0] > 0
    weights = sum(p.nbytes for p in Given(shape).weights.parameters())
    # All weights were read, and were not held many times over.
    assert row.peak_bytes is not None and 0.5 * weights < row.peak_bytes < 6 * weights


def test_other_numbers_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = iter(["[5.0, 10, [1.0, 2.0]]", "[6.0, 30, [1.0, 2.001]]"] * 2)
    monkeypatch.setattr(processes, "_run", lambda arguments: (next(printed), ""))
    ours, theirs = processes.load_times(shapes.TINY, "cpu", 2, ["interp", "transformers"])
    assert (ours.problem, ours.milliseconds, ours.peak_bytes) == ("", [5.0, 5.0], 10)
    assert theirs.problem == "disagrees by 5.0e-04" and theirs.peak_bytes == 30
