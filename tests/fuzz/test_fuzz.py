"""The fuzzer itself, and four hundred of its inputs; `make fuzz` takes 12,000."""

from __future__ import annotations

import random
import sys
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="needs the extra 'hf'")

from tests.covering import EXHAUSTIVE
from tests.fuzz import run
from tests.fuzz.mutations import mutate_files
from tests.fuzz.run import Fuzzer
from tests.fuzz.targets import TARGETS, Target

INPUTS = 6000 if EXHAUSTIVE else 400
PARTS = 4


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_what_nobody_damaged_is_read(target: Target, tmp_path: Path) -> None:
    run._write(tmp_path / "whole", target.files())
    target.read(tmp_path / "whole")


@pytest.mark.parametrize("part", range(PARTS))
def test_damaged_inputs_are_read_or_refused(part: int) -> None:
    fuzzer = Fuzzer(seed=1)
    outcomes = [fuzzer.one(number) for number in range(part, INPUTS, PARTS)]
    assert [outcome for outcome in outcomes if outcome.is_fault] == []
    kinds = Counter(outcome.kind for outcome in outcomes)
    assert kinds["read"] > 0.03 * len(outcomes) and kinds["refused"] > 0.4 * len(outcomes), kinds


def test_an_input_is_the_same_again() -> None:
    target = TARGETS[0]
    made = [mutate_files(target.files(), random.Random("0:7")) for _ in range(2)]
    assert made[0] == made[1]
    other = mutate_files(target.files(), random.Random("0:8"))
    assert other != made[0]


def test_faults_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another exception, a message without end, a file left behind, and time that runs out."""

    def outcome(read: object) -> str:
        target = Target("mine", lambda f: (f.mkdir(), (f / "a").write_text("a")), read)  # type: ignore[arg-type]
        fuzzer = Fuzzer(seed=0)
        fuzzer._turns = [target]
        return fuzzer.one(3).kind

    def endless(folder: Path) -> None:
        while True:
            pass

    def long(folder: Path) -> None:
        raise run.InterpError("x" * 5000)

    monkeypatch.setattr(run, "SECONDS", 0.2)
    assert outcome(lambda folder: None) == "read"
    assert outcome(lambda folder: {}["a"]) == "KeyError"
    assert outcome(lambda folder: (folder / "left").write_text("")) == "left something behind"
    assert outcome(long) == "a message out of bounds"
    assert outcome(endless) == "slow"
    assert outcome(lambda folder: sys.setrecursionlimit(1)) == "RecursionError"
