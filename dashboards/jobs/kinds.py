"""Kinds of work that a job may do.

Each is a module with a function `work(request, folder)` that gives an `AnalysisResult`. It may
leave files in the folder, for a page that shows them meanwhile, under names of its own, and
tells how far it is with `interp.progress.report`. It is imported by the worker alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dashboards.jobs.request import Request
from interp.errors import unknown

if TYPE_CHECKING:
    from analyses import AnalysisResult

Work = Callable[[Request, Path], "AnalysisResult"]

KINDS: dict[str, str] = {
    "analysis": "dashboards.jobs.analysis",
    "toys": "dashboards.jobs.toys",
}
"""The module of each kind."""


def require_kind(kind: str) -> None:
    """Check that there is such a kind.

    Raises:
        InputError: If there is none.
    """
    if kind not in KINDS:
        raise unknown("kind of job", kind, KINDS)


def work_of(kind: str) -> Work:
    """The function that does this kind of work.

    Raises:
        InputError: If there is no such kind.
    """
    require_kind(kind)
    return cast(Work, importlib.import_module(KINDS[kind]).work)
