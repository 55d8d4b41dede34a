"""A worker's process: whether it lives, and its end.

A process is known by its id and the time it started: ids are used again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

GRACE = 3.0  # seconds between asking a worker to end and ending it
_POLL = 0.05  # seconds


class Process(BaseModel):
    """A process that leads a group of its own.

    Attributes:
        pid: Its id, and that of its group.
        started: When it started, in the system's own words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int = Field(gt=1)
    started: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has an id now; None where none has, or one that has ended."""
        started = _started(pid)
        return None if started is None else cls(pid=pid, started=started)

    @property
    def alive(self) -> bool:
        """Whether it is still there: it, not another that has its id."""
        return _started(self.pid) == self.started

    def end(self) -> None:
        """End it and all that it started: asked first, then without asking."""
        if not self.alive:
            return
        _signal(self.pid, signal.SIGTERM)
        self._wait()
        # What it started may outlive it; the group keeps its id for as long as anyone is in it.
        _signal(self.pid, signal.SIGKILL)
        self._wait()

    def _wait(self) -> None:
        due = time.monotonic() + GRACE
        while self.alive and time.monotonic() < due:
            time.sleep(_POLL)


def _signal(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return  # nobody is left


def _started(pid: int) -> str | None:
    """When a process started; None if it has ended, though its parent may not have noticed."""
    if Path("/proc/self/stat").exists():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        # The name, in parentheses, may hold anything; fields 3 and 22 of proc(5) follow it.
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in ("Z", "X") else f"{fields[19]} ticks after boot {_boot()}"
    told = subprocess.run(
        ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)],
        check=False,  # it fails where there is no such process
        capture_output=True,
        text=True,
    )
    state, _, started = told.stdout.strip().partition(" ")
    return None if not started or state.startswith("Z") else started.strip()


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
