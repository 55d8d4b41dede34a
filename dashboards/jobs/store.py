"""A job as its directory tells of it."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, field_validator

from dashboards.jobs.process import Process
from dashboards.jobs.request import ID, Request
from dashboards.runs.names import require_run_name
from interp.files.atomic import replacing_file

FOLDER = ".jobs"
REQUEST, PROCESS, PROGRESS, OUTCOME, LOG = (
    "job.json",
    "process.json",
    "progress.json",
    "outcome.json",
    "log.txt",
)
RESULT = "result"
_TAIL = 20_000  # bytes of a log that are read
_UNBORN = 30.0  # seconds after which a request whose process was never noted counts as lost

State = Literal["queued", "running", "done", "failed", "cancelled"]
UNFINISHED: tuple[State, ...] = ("queued", "running")


class Progress(BaseModel):
    """The contents of `progress.json`.

    Attributes:
        done: The part that is done, 0 to 1; None where it cannot be told.
        line: What is being done.
        began: When the work began, in seconds since 1970.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    done: float | None = Field(default=None, ge=0, le=1)
    line: str = ""
    began: FiniteFloat


class Outcome(BaseModel):
    """The contents of `outcome.json`.

    Attributes:
        state: How it ended.
        run: The saved run, by name; None unless it is done.
        fault: What went wrong; empty unless it failed.
        ended: When, in seconds since 1970.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: Literal["done", "failed", "cancelled"]
    run: str | None = None
    fault: str = ""
    ended: FiniteFloat

    @field_validator("run")
    @classmethod
    def _is_a_plain_name(cls, run: str | None) -> str | None:
        if run is not None:
            require_run_name(run)
        return run


R = TypeVar("R", bound=BaseModel)


@dataclass(frozen=True)
class Job:
    """A job. What it says is read anew each time.

    Attributes:
        folder: Its directory.
        request: What it does.
    """

    folder: Path
    request: Request

    @property
    def id(self) -> str:
        """Its name; jobs that were asked for later have later ones."""
        return self.folder.name

    @property
    def process(self) -> Process | None:
        """Its worker, alive or not; None where it was not noted."""
        return read(self.folder / PROCESS, Process)

    @property
    def progress(self) -> Progress | None:
        """How far it has come; None where it has not begun."""
        return read(self.folder / PROGRESS, Progress)

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None while it has not.

        A worker that ended without a word, killed or out of memory, has failed.
        """
        found = read(self.folder / OUTCOME, Outcome)
        if found is not None:
            return found
        process = self.process
        if process is None:
            if abs(time.time() - self.request.created) < _UNBORN:  # a clock may have been set
                return None
            fault = "its worker was never started"
        elif process.alive:
            return None
        else:
            fault = (
                "its worker ended without a word: stopped from outside, out of memory, or with no "
                "space left on the disk"
            )
        # It may have ended between the two looks.
        found = read(self.folder / OUTCOME, Outcome)
        return found or Outcome(state="failed", fault=fault, ended=self._last_sign)

    @property
    def state(self) -> State:
        """Where it stands."""
        outcome = self.outcome
        if outcome is not None:
            return outcome.state
        return "queued" if self.progress is None else "running"

    @property
    def seconds(self) -> float:
        """How long it has worked, or did; 0 for one that has not begun."""
        progress, outcome = self.progress, self.outcome
        if progress is None:
            return 0.0
        return max(0.0, (time.time() if outcome is None else outcome.ended) - progress.began)

    def log(self, lines: int = 20) -> str:
        """The end of what it printed."""
        path = self.folder / LOG
        if not path.is_file() or path.is_symlink():
            return ""
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL))
            text = file.read().decode("utf-8", errors="replace")
        # A bar drawn over itself leaves its last state.
        told = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
        return "\n".join(told[-lines - 1 :]).strip("\n")

    def cancel(self) -> None:
        """End it, now or before it begins. One that has ended is left as it is."""
        if self.outcome is not None:
            return
        process = self.process
        if process is not None:
            process.end()
        if read(self.folder / OUTCOME, Outcome) is None:  # else it was quicker
            shutil.rmtree(self.folder / RESULT, ignore_errors=True)
            write(self.folder / OUTCOME, Outcome(state="cancelled", ended=time.time()))
        if process is None and self.process is not None:  # noted between the two looks
            self.process.end()

    @property
    def _last_sign(self) -> float:
        files = (self.folder / name for name in (REQUEST, PROCESS, PROGRESS, LOG))
        return max(file.stat().st_mtime for file in files if file.exists())


def read(path: Path, shape: type[R]) -> R | None:
    """A document; None where there is none, or none of this shape."""
    try:
        # No link, and no pipe, whose reader would wait for ever.
        if path.is_symlink() or not path.is_file():
            return None
        return shape.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def write(path: Path, document: BaseModel) -> None:
    """Write a document so that nobody meets half of it."""
    with replacing_file(path) as fresh:
        fresh.write_text(document.model_dump_json(), encoding="utf-8")


def jobs_in(runs: Path) -> list[Job]:
    """All jobs of a directory of runs, the first first. What is no job is passed over."""
    folder = runs / FOLDER
    if not folder.is_dir():
        return []
    names = sorted(
        each.name for each in folder.iterdir() if ID.fullmatch(each.name) and not each.is_symlink()
    )
    found = [(folder / name, read(folder / name / REQUEST, Request)) for name in names]
    return [Job(path, request) for path, request in found if request is not None]
