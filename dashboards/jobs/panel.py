"""Jobs on a page: how far they are, what they say, and their end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import streamlit as st

from dashboards.drawing.wording import plain
from dashboards.jobs.launch import find
from dashboards.jobs.store import UNFINISHED, Job

EVERY = 1.0  # seconds between looks, while something is under way
FINISHED = 5  # jobs that have ended which are shown
LOG_LINES = 12
_WORDS = {
    "queued": "waiting for its turn",
    "running": "running",
    "done": "done",
    "failed": "failed",
    "cancelled": "cancelled",
}


def jobs_panel(
    runs: Path, open_run: Callable[[str], None], analysis: str | None = None, key: str = "jobs"
) -> None:
    """Draw the jobs, and go on drawing them by themselves while one is under way.

    When one ends the whole page is drawn again, with what it has saved.

    Args:
        runs: The directory of runs whose jobs they are.
        open_run: Goes to the page of a saved run, by name.
        analysis: Only jobs of this one; None: all.
        key: Begins the keys of its widgets.
    """
    found = _of(runs, analysis)
    if not found:
        return
    under_way = any(job.state in UNFINISHED for job in found)
    st.fragment(_draw, run_every=EVERY if under_way else None)(
        runs, open_run, analysis, key, under_way
    )


def _of(runs: Path, analysis: str | None) -> list[Job]:
    return [job for job in find(runs) if analysis in (None, job.request.analysis)]


def _draw(
    runs: Path,
    open_run: Callable[[str], None],
    analysis: str | None,
    key: str,
    was_under_way: bool,
) -> None:
    found = _of(runs, analysis)
    unfinished = [job for job in found if job.state in UNFINISHED]
    if was_under_way and len(unfinished) < st.session_state.get(f"{key}/under way", 0):
        del st.session_state[f"{key}/under way"]
        st.rerun()  # the whole page: there is a new run, or none to wait for
    st.session_state[f"{key}/under way"] = len(unfinished)
    ended = [job for job in found if job not in unfinished][:FINISHED]
    for job in unfinished:
        with st.container(border=True):
            _unfinished(job, key)
    if ended:
        with st.expander(f"Background runs that have ended ({len(ended)})"):
            for job in ended:
                _ended(job, key, open_run)


def _unfinished(job: Job, key: str) -> None:
    progress = job.progress
    what, button = st.columns([5, 1], vertical_alignment="center")
    with what:
        st.markdown(f"**{plain(_title(job))}**: {_WORDS[job.state]}{_time(job)}")
        done = None if progress is None else progress.done
        line = "behind earlier ones" if progress is None else progress.line
        st.progress(min(max(done or 0.0, 0.0), 1.0), text=plain(line) or None)
    with button:
        st.button("Cancel", key=f"{key}/{job.id}/cancel", on_click=job.cancel, width="stretch")
    _log(job)


def _ended(job: Job, key: str, open_run: Callable[[str], None]) -> None:
    outcome = job.outcome
    assert outcome is not None
    what, button = st.columns([5, 1], vertical_alignment="center")
    with what:
        fault = f": {plain(outcome.fault)}" if outcome.fault else ""
        st.markdown(f"**{plain(_title(job))}**: {_WORDS[outcome.state]}{_time(job)}{fault}")
    if outcome.run is not None and (job.folder.parents[1] / outcome.run).is_dir():
        with button:
            if st.button("Open", key=f"{key}/{job.id}/open", width="stretch"):
                open_run(outcome.run)
    if outcome.state == "failed":
        _log(job)


def _title(job: Job) -> str:
    model = job.request.model
    return job.request.name if model is None else f"{job.request.name} ({model})"


def _time(job: Job) -> str:
    seconds = round(job.seconds)
    if job.progress is None:
        return ""
    return f", {seconds // 60} min {seconds % 60:02} s" if seconds >= 60 else f", {seconds} s"


def _log(job: Job) -> None:
    told = job.log(LOG_LINES)
    if told:
        st.code(told, language=None, wrap_lines=True)
