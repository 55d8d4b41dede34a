"""Saved results: which there are, and a short account of each."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from analyses import AnalysisResult
from analyses.results.storage import DOCUMENT, TABLES, look
from dashboards.runs.names import require_run_name
from interp import InputError, InterpError

MOST_RUNS = 2_000  # that are looked for below a directory
MOST_OF_FAULT = 300  # characters that are told


@dataclass(frozen=True)
class SavedRun:
    """A line of the list.

    Attributes:
        name: The directory, relative to that of all runs.
        analysis, model, created: What it holds, for a reader; empty for a damaged run.
        checks, failed: How many checks it reports, and how many of them failed.
        seconds: How long it took.
        fault: Why it cannot be opened; empty for a sound run.
    """

    name: str
    analysis: str = ""
    model: str = ""
    created: str = ""
    checks: int = 0
    failed: int = 0
    seconds: float = 0.0
    fault: str = ""


def find(runs: Path) -> list[SavedRun]:
    """All saved results below a directory, the latest first, damaged ones last.

    `MOST_RUNS` at most. Directories whose name begins with a dot are no runs. Tables are looked at,
    not read: what is wrong within one shows when its run is opened.
    """
    found = [_told(runs, name) for name in _names(runs)]
    sound = sorted((run for run in found if not run.fault), key=lambda run: run.name)
    sound.sort(key=lambda run: run.created, reverse=True)
    return sound + [run for run in found if run.fault]


def load(runs: Path, name: str) -> AnalysisResult:
    """A saved result, read once for as long as its files stay as they are; to be read only.

    Raises:
        InputError: If it is damaged, or gone.
    """
    try:
        return _load(runs, name, _fingerprint(runs / name))
    except OSError as fault:
        raise InputError(f"{name} cannot be read: {_line(fault)}.") from fault


def save(result: AnalysisResult, runs: Path, name: str) -> Path:
    """Save a result under a new name.

    Raises:
        InputError: If the name is no plain directory name, or taken.
    """
    require_run_name(name)
    if (runs / name).exists():
        raise InputError(f"{runs / name} exists already: choose another name.")
    return result.save(runs / name)


def _names(runs: Path) -> list[str]:
    names: list[str] = []
    for folder, below, files in os.walk(runs):
        if DOCUMENT in files:
            names.append(Path(folder).relative_to(runs).as_posix())
            if Path(folder) != runs:
                below.clear()
        if len(names) == MOST_RUNS:
            return names
        below[:] = sorted(name for name in below if not name.startswith("."))
    return names


def _told(runs: Path, name: str) -> SavedRun:
    shown = name.encode("utf-8", "backslashreplace").decode()
    if shown != name:  # bytes that no screen and no address can hold
        return SavedRun(shown, fault="its name is not UTF-8: give it another")
    try:
        return _account(runs, name, _fingerprint(runs / name))
    except (InterpError, OSError) as fault:
        return SavedRun(name, fault=_line(fault))


def _line(fault: BaseException) -> str:
    told = " ".join((str(fault) or type(fault).__name__).split())
    return told if len(told) <= MOST_OF_FAULT else f"{told[:MOST_OF_FAULT]} …"


Fingerprint = tuple[tuple[str, int, int, int], ...]


def _fingerprint(directory: Path) -> Fingerprint:
    """Changes with the files of a run that are read."""
    tables = directory / TABLES
    with os.scandir(tables) as found:
        states = [(each.name, each.stat()) for each in found]
    states.append((DOCUMENT, (directory / DOCUMENT).stat()))
    return tuple(sorted((name, s.st_mtime_ns, s.st_ctime_ns, s.st_size) for name, s in states))


@functools.lru_cache(maxsize=8)
def _load(runs: Path, name: str, fingerprint: Fingerprint) -> AnalysisResult:
    return AnalysisResult.load(runs / name)


@functools.lru_cache(maxsize=MOST_RUNS)
def _account(runs: Path, name: str, fingerprint: Fingerprint) -> SavedRun:
    document = look(runs / name)
    return SavedRun(
        name,
        document.name,
        document.provenance.model or "",
        f"{document.provenance.created:%Y-%m-%d %H:%M:%S %Z}",
        len(document.checks),
        sum(not check.passed for check in document.checks),
        document.provenance.seconds,
    )
