"""Two processes that share a model, beside one that has it alone: `checks.py` compares them.

They are started once, and every test here reads what one check found.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.interp.parallel.checks import CHECKS

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each check found, by rank. The processes run once for all of pytest's workers."""
    shared = tmp_path_factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else None
    folder = (shared or tmp_path_factory.getbasetemp()) / "parallel"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            folder.mkdir()
            _run(folder)
    return [json.loads((folder / f"{rank}.json").read_text("utf-8")) for rank in range(2)]


def _run(folder: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    logs = [(folder / f"{rank}.log").open("w") for rank in range(2)]
    command = [sys.executable, "-m", "tests.interp.parallel.checks"]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(folder)], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
        for rank, log in enumerate(logs)
    ]
    try:
        codes = [process.wait(timeout=600) for process in processes]
    finally:
        for process, log in zip(processes, logs, strict=True):
            process.kill()
            log.close()
    if codes != [0, 0]:
        pytest.fail("\n".join((folder / f"{rank}.log").read_text() for rank in range(2)))


@pytest.mark.parametrize("name", CHECKS)
def test_as_on_one_device(name: str, found: list[dict[str, Any]]) -> None:
    for rank, of_rank in enumerate(found):
        assert name in of_rank, f"rank {rank} stopped before, at {list(of_rank)[-1]}"
        assert "fault" not in of_rank[name], of_rank[name].get("fault")
    if "skipped" in found[0][name]:
        pytest.skip(found[0][name]["skipped"])
