"""An analysis run inside a page: once for equal settings, and no longer than a page may take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import streamlit as st

from analyses import AnalysisResult, run_analysis
from dashboards.page.subject import Loaded
from interp import InterpError
from interp.interventions import Interventions
from interp.progress import listening

SECONDS = 30.0  # that a run in a page may take
KEPT = 32  # results


class TooLongError(InterpError):
    """A run in a page took longer than a page may; the message says what to do."""


def run_here(
    name: str, loaded: Loaded | None, settings: dict[str, Any], interventions: str | None
) -> AnalysisResult:
    """Run an analysis, with the model's lock held.

    Its time is looked at before each forward pass and where it reports its progress
    (`interp.progress`): one that is over is stopped there.

    Args:
        name: The analysis.
        loaded: The model; None for an analysis that needs none.
        settings: Its parameters.
        interventions: What the model is analysed with, as JSON.

    Returns:
        The result, shared by all sessions: to be read only.

    Raises:
        TooLongError: If it takes more than `SECONDS`; also when it is asked for again.
        InputError: As `run_analysis`.
    """
    identity = None if loaded is None else loaded.identity
    found = _run(name, identity, settings, interventions, loaded)
    if found is None:
        raise TooLongError(
            f"{name} took more than the {SECONDS:g} seconds that a page may take, and was stopped. "
            "Run it in the background, or with smaller settings."
        )
    return found


@st.cache_resource(max_entries=KEPT, show_spinner="Running …")
def _run(
    name: str,
    identity: tuple[str, str] | None,
    settings: dict[str, Any],
    interventions: str | None,
    _loaded: Loaded | None,
) -> AnalysisResult | None:
    plan = () if interventions is None else Interventions.from_json(interventions)
    try:
        if _loaded is None:
            with _limited(None):
                return run_analysis(name, interventions=plan, **settings)
        with _loaded.lock, _limited(_loaded.model):
            return run_analysis(name, _loaded.model, interventions=plan, **settings)
    except _OverError:
        return None  # kept like a result, or every look at the page would take as long again


class _OverError(Exception):
    """The time is over."""


@contextmanager
def _limited(model: Any) -> Iterator[None]:
    due = time.monotonic() + SECONDS

    def look(*_: Any) -> None:
        if time.monotonic() > due:
            raise _OverError

    hook = None if model is None else model.register_forward_pre_hook(look)
    try:
        with listening(look):
            yield
    finally:
        if hook is not None:
            hook.remove()
