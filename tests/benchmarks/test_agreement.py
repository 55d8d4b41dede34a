"""All contenders of every task of the benchmarks compute the same numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.covering import every_nth, slow

pytest.importorskip("transformers", reason="needs the extra 'hf'")
from benchmarks import bench, contenders, shapes, suites
from benchmarks.contenders import Contenders, Job, hugging_face, nnsight, ours, transformer_lens
from benchmarks.given import Given

TASKS = dict.fromkeys(
    task for entry in (*suites.CPU, *suites.GPU) for task in entry.tasks if "sweep" not in task
)
SWEEPS = dict.fromkeys(
    task for entry in (*suites.CPU, *suites.GPU) for task in entry.tasks if "sweep" in task
)
LENS = {transformer_lens.BRIDGE, transformer_lens.NATIVE}
EXPECTED = {
    "forward": {ours.OURS, hugging_face.SDPA, hugging_face.EAGER, nnsight.SDPA, *LENS},
    "record_all": {ours.OURS, hugging_face.EAGER, nnsight.EAGER, *LENS},
    "record_pattern": {ours.OURS, hugging_face.EAGER, nnsight.EAGER, *LENS},
    "edit": {ours.OURS, hugging_face.SDPA, nnsight.SDPA, *LENS},
    "generation": {ours.OURS, hugging_face.SDPA, transformer_lens.BRIDGE, nnsight.SDPA},
}


@pytest.fixture(scope="module")
def given() -> Given:
    """Of a tiny shape; compiled programs are traced but run eagerly, which takes no compiler."""
    return Given(shapes.TINY, compile_backend="eager", new_tokens=5)


@pytest.fixture(scope="module")
def built(given: Given) -> list[Contenders]:
    """Every package that is here."""
    return [package(given) for package in contenders.ALL if package.is_installed()]


def check(task: str, given: Given, built: list[Contenders]) -> list[bench.Row]:
    rows: list[bench.Row] = []
    with torch.no_grad():
        bench.check(task, given, built, rows)
    return rows


@pytest.mark.parametrize("task", every_nth([*TASKS, *SWEEPS], 2, 0))
def test_contenders_agree(task: str, given: Given, built: list[Contenders]) -> None:
    rows = check(task, given, built)
    assert [(row.contender, row.problem) for row in rows if row.problem] == []
    # The first is what the others are compared with, and what makes no numbers is not compared.
    compared = [row for row in rows[1:] if "no statistics" not in row.note]
    assert compared and rows[0].contender == ours.OURS
    for row in compared:
        assert row.difference is not None and row.difference <= 1e-5, row.contender
    packages = {type(b).package for b in built}
    if task in EXPECTED and {"transformer_lens", "nnsight"} <= packages:
        assert {row.contender for row in rows} == EXPECTED[task]


@slow
@pytest.mark.parametrize("task", suites.COMPILED)
def test_compiled_contenders_agree(task: str, given: Given) -> None:
    built = [p(given, suites.COMPILED) for p in (contenders.Interp, contenders.HuggingFace)]
    rows = check(task, given, built)
    assert [(row.contender, row.problem) for row in rows if row.problem] == []
    compiled = [row for row in rows if row.compile_seconds is not None]
    assert ours.COMPILED in {row.contender for row in compiled}
    assert all(row.difference is not None and row.difference <= 1e-5 for row in compiled)


def test_compiled_recording_is_the_same_recording(given: Given) -> None:
    jobs = contenders.Interp(given, ("record_all",)).jobs("record_all")
    with torch.no_grad():
        (_, eager), (_, compiled) = (jobs[n].run() for n in (ours.OURS, ours.COMPILED))
    assert set(compiled.keys()) == set(eager.keys())


class Wrong(contenders.Interp):
    """Contenders that are off by a little, break, or speak of something else."""

    def forward(self) -> dict[str, Job]:
        def run() -> Tensor:
            logits: Tensor = self.model(self.given.tokens)
            return logits + 3e-5 * logits.abs().max()

        def broken() -> Tensor:
            raise RuntimeError("no such thing\nand more")

        def read(logits: Tensor) -> dict[str, Tensor]:
            return {"logits": logits}

        return {
            "off": Job(run, read),
            "broken": Job(broken, read),
            "nan": Job(lambda: run() * torch.nan, read),
            "misshapen": Job(lambda: run()[:, :1], read),
            "other": Job(run, lambda logits: {"values": logits}),
        }


def test_disagreement_is_found_and_not_timed(given: Given) -> None:
    rows: list[bench.Row] = []
    with torch.no_grad():
        ready = bench.check("forward", given, [contenders.Interp(given), Wrong(given)], rows)
    assert [checked.row.contender for checked in ready] == [ours.OURS]
    problems = {row.contender: row.problem for row in rows}
    assert problems[ours.OURS] == ""
    assert problems["off"].startswith("disagrees by 3.")
    assert problems["broken"] == "RuntimeError: no such thing"
    assert "NaN" in problems["nan"]
    assert "shapes differ" in problems["misshapen"]
    assert "nothing to compare" in problems["other"]


def test_a_missing_package_is_left_out(given: Given, monkeypatch: Any) -> None:
    monkeypatch.setattr(contenders.NNsight, "package", "a_package_that_nobody_has")
    entry = suites.Entry(given.shape, ("edit",), suites.Effort(0.01, at_least=1, at_most=1))
    (rows,) = bench.run_entry(entry, "cpu", packages=(contenders.Interp, contenders.NNsight))
    assert [row.contender for row in rows] == [ours.OURS]
    assert rows[0].milliseconds
