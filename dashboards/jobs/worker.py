"""The process of one job: `python -m dashboards.jobs.worker FOLDER`."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType

from dashboards.jobs.kinds import work_of
from dashboards.jobs.process import Process
from dashboards.jobs.request import Request
from dashboards.jobs.store import (
    OUTCOME,
    PROCESS,
    PROGRESS,
    REQUEST,
    RESULT,
    Outcome,
    Progress,
    jobs_in,
    read,
    write,
)
from dashboards.runs.names import free_name
from interp.errors import InterpError
from interp.progress import listening

AT_ONCE = 2  # jobs that work; later ones wait
NICENESS = 5  # the pages come first
_POLL = 0.25  # seconds between looks at those before
_BETWEEN_WRITES = 0.25  # seconds


def main(folder: Path) -> int:
    """Do a job, and write down how it ended. Gives the exit code: 0 if it is done, else 1."""
    signal.signal(signal.SIGTERM, _stop)
    os.nice(NICENESS)
    request = read(folder / REQUEST, Request)
    if request is None:
        print(f"{folder} holds no job", file=sys.stderr)
        return 1
    _note(folder)
    _wait(folder)
    if read(folder / OUTCOME, Outcome) is not None:
        print("it was cancelled before it began", file=sys.stderr)
        return 1
    began = time.time()
    try:
        run = _work(request, folder, began)
    except InterpError as fault:
        return _fail(folder, str(fault))
    except Exception as fault:
        # The outermost frame: the log has the traceback, the page the line.
        traceback.print_exc()
        return _fail(folder, f"{type(fault).__name__}: {fault}")
    print(f"saved as {run}")
    return 0


def _note(folder: Path) -> None:
    """Note this process; the server that started it does so too, unless it is ended just then."""
    own = Process.of(os.getpid())
    assert own is not None  # it runs
    write(folder / PROCESS, own)


def _work(request: Request, folder: Path, began: float) -> str:
    due = 0.0

    def tell(done: float, line: str) -> None:
        nonlocal due
        if time.monotonic() >= due:
            done = min(max(done, 0.0), 1.0)  # parts of a sum may exceed it by a rounding
            write(folder / PROGRESS, Progress(done=done, line=line, began=began))
            due = time.monotonic() + _BETWEEN_WRITES

    write(folder / PROGRESS, Progress(line="starting", began=began))
    with listening(tell):
        result = work_of(request.kind)(request, folder)
    write(folder / PROGRESS, Progress(done=1.0, line="saving", began=began))
    result.save(folder / RESULT)
    # From here on it is not to be stopped between two steps: the run is there and told, or neither.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    run = _publish(folder / RESULT, folder.parents[1], request.name)
    write(folder / OUTCOME, Outcome(state="done", run=run, ended=time.time()))
    return run


def _publish(result: Path, runs: Path, wish: str) -> str:
    """Move a whole result to where runs are, under a name that is free."""
    while True:
        name = free_name(runs, wish)
        try:
            os.rename(result, runs / name)
        except OSError:
            if not (runs / name).exists():  # it was not that somebody else took the name
                raise
            continue
        return name


def _wait(folder: Path) -> None:
    """Wait until fewer than `AT_ONCE` jobs that were asked for earlier are under way."""
    while True:
        before = [job for job in jobs_in(folder.parents[1]) if job.id < folder.name]
        if sum(job.outcome is None for job in before) < AT_ONCE:
            return
        time.sleep(_POLL)


def _fail(folder: Path, fault: str) -> int:
    # What a message quotes, such as a path, may hold what is no text.
    told = fault.encode("utf-8", "backslashreplace").decode()
    write(folder / OUTCOME, Outcome(state="failed", fault=told, ended=time.time()))
    return 1


def _stop(number: int, frame: FrameType | None) -> None:
    # Contexts are left in order, so that no temporary file stays behind.
    raise SystemExit(128 + number)


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
