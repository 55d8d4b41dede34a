"""Jobs of a directory of runs: start one, find them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dashboards.jobs.process import Process
from dashboards.jobs.request import ID, Request
from dashboards.jobs.store import (
    FOLDER,
    LOG,
    PROCESS,
    REQUEST,
    UNFINISHED,
    Job,
    jobs_in,
    read,
    write,
)
from interp.errors import InputError, require

MOST_UNFINISHED = 10  # that work or wait
MOST_FINISHED = 30  # that are remembered

WORKER = (sys.executable, "-m", "dashboards.jobs.worker")


def find(runs: Path) -> list[Job]:
    """All jobs, the latest first."""
    return jobs_in(runs)[::-1]


def get(runs: Path, id: str) -> Job:
    """One job.

    Raises:
        InputError: If there is none of this name.
    """
    folder = runs / FOLDER / id
    request = read(folder / REQUEST, Request) if ID.fullmatch(id) else None
    if request is None:
        raise InputError(f"there is no job {id!r}.")
    return Job(folder, request)


def start(
    runs: Path,
    analysis: str,
    model: str | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    interventions: str | None = None,
    name: str | None = None,
    device: str | None = None,
    kind: str = "analysis",
) -> Job:
    """Start a job, and forget the oldest ones that have ended.

    Args:
        runs: Where its result is saved.
        analysis: The analysis, by name.
        model: As the dashboard offers it.
        settings: Parameters of the analysis that differ from its defaults, as JSON values.
        interventions: What the model is analysed with, as `Interventions.to_json` wrote it.
        name: Of the run; by default that of the analysis and the model.
        device: Where the model runs; None: as `load_model` chooses.
        kind: Of work, as `dashboards.jobs.kinds` lists it.

    Raises:
        InputError: If the analysis is unknown, a setting breaks its rule, opens a file or a model
            that is not of the zoo, the name is none for a run, too many jobs wait already, or the
            job cannot be written or its process not be started.
    """
    from analyses import get_analysis
    from analyses.registry import validate_params
    from dashboards.jobs.kinds import require_kind
    from dashboards.runs.names import run_name
    from dashboards.settings import require_no_paths

    require_kind(kind)
    cls, given = get_analysis(analysis), dict(settings or {})
    validate_params(cls, given)
    require_no_paths(cls.Params, given)
    require(cls.needs_model == (model is not None), _misfit(analysis, model))
    unfinished = [job for job in jobs_in(runs) if job.state in UNFINISHED]
    require(
        len(unfinished) < MOST_UNFINISHED,
        f"{MOST_UNFINISHED} jobs at most may work or wait: cancel one, or wait for its end",
    )
    now = time.time()
    try:
        request = Request(
            kind=kind, analysis=analysis, model=model, settings=given, interventions=interventions,
            name=name or run_name(analysis, model), device=device, created=now,
        )  # fmt: skip
    except ValidationError as fault:
        first = fault.errors()[0]
        raise InputError(first["msg"].removeprefix("Value error, ")) from fault
    _prune(runs)
    folder = runs / FOLDER / f"{datetime.fromtimestamp(now, UTC):%Y%m%d-%H%M%S-%f}-{_tail()}"
    try:
        folder.mkdir(parents=True)
        write(folder / REQUEST, request)
        _launch(folder)
    except OSError as fault:  # no space left, no right to write, no process more
        shutil.rmtree(folder, ignore_errors=True)
        raise InputError(f"the job cannot be started: {fault}.") from fault
    return Job(folder, request)


def _launch(folder: Path) -> None:
    with (folder / LOG).open("wb") as log:
        worker = subprocess.Popen(
            [*WORKER, str(folder)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
            # What it prints is in the log at once, and stays there if it is killed.
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
    process = Process.of(worker.pid)
    try:
        if process is not None:  # it has not ended already
            write(folder / PROCESS, process)
    except OSError:
        worker.kill()
        raise
    finally:
        _await(worker, folder.name)


def _await(worker: subprocess.Popen[bytes], job: str) -> None:
    # Without somebody who waits for it, a worker that has ended would stay as a zombie.
    threading.Thread(target=worker.wait, name=f"job {job}", daemon=True).start()


def _prune(runs: Path) -> None:
    ended = [job for job in jobs_in(runs) if job.outcome is not None]
    for job in ended[: max(0, len(ended) - MOST_FINISHED)]:
        shutil.rmtree(job.folder, ignore_errors=True)


def _misfit(analysis: str, model: str | None) -> str:
    if model is None:
        return f"{analysis} needs a model. Received None"
    return f"{analysis} takes no model. Received {model!r}"


def _tail() -> str:
    return uuid.uuid4().hex[:8]
