"""Two processes that share a model, beside one that has it alone: `checks/` compares them.

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

from tests.interp.parallel.checks.run import CHECKS

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
    command = [sys.executable, "-m", "tests.interp.parallel.checks.run", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1300
    )
    if done.returncode != 0:
        pytest.fail(done.stdout[-3000:] + done.stderr[-6000:])


@pytest.mark.parametrize("name", CHECKS)
def test_as_on_one_device(name: str, found: list[dict[str, Any]]) -> None:
    for rank, of_rank in enumerate(found):
        assert name in of_rank, f"rank {rank} stopped before, at {list(of_rank)[-1]}"
        assert "fault" not in of_rank[name], of_rank[name].get("fault")
    if "skipped" in found[0][name]:
        pytest.skip(found[0][name]["skipped"])
