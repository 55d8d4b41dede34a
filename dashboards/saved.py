"""Saved results: which there are, and a short account of each."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from analyses import AnalysisResult
from analyses.storage import DOCUMENT
from interp import InputError, InterpError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class SavedRun:
    """A line of the list.

    Attributes:
        name: The directory, relative to that of all runs.
        analysis, model, created, checks: What it holds, for a reader; empty for a damaged run.
        fault: Why it cannot be opened; empty for a sound run.
    """

    name: str
    analysis: str = ""
    model: str = ""
    created: str = ""
    checks: str = ""
    fault: str = ""


def find(runs: Path) -> list[SavedRun]:
    """All saved results below a directory, the latest first, damaged ones last."""
    found = [_account(runs, name, _fingerprint(runs / name)) for name in _names(runs)]
    sound = sorted((run for run in found if not run.fault), key=lambda run: run.name)
    sound.sort(key=lambda run: run.created, reverse=True)
    return sound + [run for run in found if run.fault]


def save(result: AnalysisResult, runs: Path, name: str) -> Path:
    """Save a result under a new name.

    Raises:
        InputError: If the name is no plain directory name, or taken.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"a run's name takes letters, digits, '.', '-' and '_', and begins with a letter or "
            f"digit. Received {name!r}."
        )
    if (runs / name).exists():
        raise InputError(f"{runs / name} exists already: choose another name.")
    return result.save(runs / name)


def free_name(runs: Path, wish: str) -> str:
    """The wish, with a number behind it if that run exists."""
    wish = re.sub(r"[^A-Za-z0-9._-]+", "-", wish).strip("-.") or "run"
    name, number = wish, 1
    while (runs / name).exists():
        number += 1
        name = f"{wish}-{number}"
    return name


def _names(runs: Path) -> list[str]:
    names = []
    for folder, below, files in os.walk(runs):
        if DOCUMENT in files:
            names.append(Path(folder).relative_to(runs).as_posix())
            below.clear()
        below[:] = sorted(name for name in below if not name.startswith("."))
    return names


def _fingerprint(directory: Path) -> tuple[tuple[str, int, int], ...]:
    """Changes with the files of a run."""
    files = [Path(folder) / name for folder, _, names in os.walk(directory) for name in names]
    states = [(str(file), file.stat()) for file in sorted(files)]
    return tuple((name, state.st_mtime_ns, state.st_size) for name, state in states)


@st.cache_data(max_entries=1000, show_spinner=False)
def _account(runs: Path, name: str, fingerprint: tuple[tuple[str, int, int], ...]) -> SavedRun:
    try:
        result = AnalysisResult.load(runs / name)
    except (InterpError, OSError) as fault:
        return SavedRun(name, fault=str(fault))
    failed = sum(not check.passed for check in result.checks)
    return SavedRun(
        name,
        result.name,
        result.provenance.model or "",
        f"{result.provenance.created:%Y-%m-%d %H:%M:%S} UTC",
        f"{failed} of {len(result.checks)} failed" if failed else f"{len(result.checks)} passed",
    )
