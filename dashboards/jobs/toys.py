"""The kind of job that trains toys and leaves them in its folder as they become what they are.

Imported by the worker alone.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from analyses import AnalysisResult, run_analysis
from analyses.superposition.toys import watched
from analyses.superposition.toys_tables import Toys
from dashboards.jobs.request import Request
from dashboards.jobs.toy_snapshots import Snapshot, write

_BETWEEN_WRITES = 0.3  # seconds


def work(request: Request, folder: Path) -> AnalysisResult:
    """Train, and write the toys down at snapshots, at most a few times a second."""
    steps: list[int] = []
    losses: list[torch.Tensor] = []
    due = 0.0
    latest: Snapshot | None = None

    def watch(toys: Toys) -> None:
        nonlocal due, latest
        steps.append(toys.steps[-1])
        losses.append(toys.loss[-1])
        best = toys.best
        latest = Snapshot(
            step=steps[-1],
            densities=list(toys.densities),
            W=toys.W[-1, best],
            W_out=None if toys.W_out is None else toys.W_out[-1, best],
            steps=list(steps),
            losses=torch.stack(losses)[:, best],
        )
        if time.monotonic() >= due:
            write(folder, latest)
            due = time.monotonic() + _BETWEEN_WRITES

    with watched(watch):
        settings: dict[str, Any] = dict(request.settings)
        result = run_analysis(request.analysis, **settings)
    assert latest is not None  # the last step is one
    write(folder, latest)
    return result
