"""The page of saved runs: which there are, one of them opened, or two beside each other."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from analyses import AnalysisResult, get_analysis
from analyses.results.storage import REPORT
from dashboards import jobs
from dashboards.drawing.wording import plain
from dashboards.jobs.panel import jobs_panel
from dashboards.options import read_options
from dashboards.page.address import Choices
from dashboards.page.kept_texts import KeptTexts
from dashboards.runs import comparison, results, saved
from dashboards.runs.names import run_name
from dashboards.runs.rerun import offered_as, page_address
from dashboards.runs.saved import SavedRun
from interp import InputError
from interp.files import contained

ALL, NONE = "all", "none"
MOST_FAULTS = 10  # that are told one by one
_ASKED = ("run", "beside", "find", "analysis", "model-of", "sort", "failed")
_SORTED = {
    "newest": ("created", False),
    "oldest": ("created", True),
    "name": ("run", True),
    "analysis": ("analysis", True),
    "model": ("model", True),
    "longest": ("seconds", False),
}


def show(choices: Choices, runs: Path) -> None:
    """Draw the page.

    Args:
        choices: Of this page.
        runs: Where results are saved.
    """

    def open_run(name: str) -> None:
        choices.keep("run", name)
        choices.keep("beside", NONE)
        st.rerun()

    found = saved.find(runs)
    sound = [run for run in found if not run.fault]
    among = "The first " if len(found) == saved.MOST_RUNS else ""
    st.caption(plain(f"{among}{len(found):,} in {runs}"))
    jobs_panel(runs, open_run)
    if not found:
        st.info(
            "Nothing is saved here yet. Save a result on the page of an analysis, or run "
            f"`interp run head-attribution --model NAME --out {runs}/NAME`."
        )
    _faults([run for run in found if run.fault])
    if not sound:
        choices.keep_unseen(*_ASKED)
        return
    rows = _filtered(choices, sound)
    asked = choices.kept.get("run")
    names = [str(name) for name in rows["run"]]
    if asked is not None and asked not in names and any(run.name == asked for run in sound):
        names.append(asked)  # the filter is for the list, not for what is open
    if not names:
        choices.keep_unseen(*_ASKED)
        st.info("No run passes the filter.")
        return
    if len(rows):
        _list(choices, rows)
    one, another = st.columns(2)
    with one:
        name = choices.choice("run", "Run", names, names[0])
    choices.keep("run", name)  # also the first one: what is open stays open under another filter
    others = [run.name for run in sound if run.name != name]
    with another:
        beside = choices.choice("beside", "Beside", [NONE, *others], NONE, _or_nothing)
    if beside == NONE:
        _run(runs, name)
    else:
        pair = saved.load(runs, name), saved.load(runs, beside)
        comparison.show(runs, (name, beside), pair, "runs/beside")


def _faults(damaged: list[SavedRun]) -> None:
    for run in damaged[:MOST_FAULTS]:
        st.error(plain(f"{run.name} cannot be opened: {run.fault}"))
    if len(damaged) > MOST_FAULTS:
        st.error(f"{len(damaged) - MOST_FAULTS} more runs cannot be opened.")


def _filtered(choices: Choices, sound: list[SavedRun]) -> pd.DataFrame:
    """The rows of the list that the reader wants, in the order wanted."""
    rows = pd.DataFrame([asdict(run) for run in sound]).drop(columns="fault")
    rows = rows.rename(columns={"name": "run"})
    find, analysis, model, order = st.columns([3, 2, 2, 2])
    with find:
        words = choices.line("find", "Find", placeholder="Part of a name").lower().split()
    with analysis:
        wanted = choices.choice("analysis", "Analysis", [ALL, *sorted(set(rows["analysis"]))], ALL)
    with model:
        models = sorted(set(rows["model"]) - {""})
        whose = choices.choice("model-of", "Model", [ALL, *models], ALL)
    with order:
        by, up = _SORTED[choices.choice("sort", "Order", list(_SORTED), "newest")]
    only_failed = choices.toggle("failed", "Only runs with failed checks", False)
    told = (rows["run"] + " " + rows["analysis"] + " " + rows["model"]).str.lower()
    kept = pd.Series(True, rows.index)
    for word in words:
        kept &= told.str.contains(word, regex=False)
    if wanted != ALL:
        kept &= rows["analysis"] == wanted
    if whose != ALL:
        kept &= rows["model"] == whose
    if only_failed:
        kept &= rows["failed"] > 0
    return rows[kept].sort_values(by, ascending=up, kind="stable").reset_index(drop=True)


def _list(choices: Choices, rows: pd.DataFrame) -> None:
    names = list(rows["run"])

    def open_selected() -> None:
        selected = st.session_state["runs/list"]["selection"]["rows"]
        if selected:
            choices.keep("run", names[selected[0]])

    st.dataframe(
        rows, hide_index=True, key="runs/list", on_select=open_selected,
        selection_mode="single-row", height=min(38 + 35 * len(rows), 320),
        column_config={"seconds": st.column_config.NumberColumn(format="%.2f")},
    )  # fmt: skip


def _run(runs: Path, name: str) -> None:
    result = saved.load(runs, name)
    offered = read_options().models
    model = offered_as(result.provenance.model, offered)
    st.header(plain(name))
    st.markdown(f"**{plain(result.name)}**: {plain(result.question)}")
    if result.caveat:
        st.caption(plain(result.caveat))
    with st.container(horizontal=True):
        _report(runs / name)
        again = _again(runs, result, model, offered)
    if again:
        st.caption(plain(again))
    results.show(result, f"runs/{name}", model)


def _report(directory: Path) -> None:
    report = directory / REPORT
    if report.is_file() and contained(directory, report):
        st.download_button(
            "Download report", report.read_bytes, f"{directory.name}.html", "text/html",
            help="One HTML file that needs no other.", on_click="ignore",
        )  # fmt: skip
    else:
        st.caption(plain(f"{REPORT} is missing from {directory}."))


def _again(runs: Path, result: AnalysisResult, model: str | None, offered: tuple[str, ...]) -> str:
    """Ways to run it again; gives what is to be known about them."""
    if result.provenance.grid is not None:
        return "It is a grid of runs: the Python below makes it again."
    try:
        cls = get_analysis(result.name)
        address = page_address(result, offered, KeptTexts(runs))
    except InputError as fault:
        return f"It cannot be run again here: {fault}"
    st.link_button(
        "Change parameters and run again", address,
        help="Opens the page of the analysis, its form filled with this run's parameters.",
    )  # fmt: skip
    if cls.needs_model and model is None:
        return (
            f"Its model, {result.provenance.model}, is not among those offered: the page of the "
            "analysis opens with another."
        )
    st.button(
        "Run again in the background", key="runs/again", on_click=_start,
        args=(runs, result, model), help="As it was, under a new name.",
    )  # fmt: skip
    refused = st.session_state.pop("runs/again/refused", "")
    if refused:
        st.error(plain(refused))
    if result.provenance.interventions:
        return (
            "It was made with interventions: the background takes them over, the page of the "
            "analysis takes those at its side."
        )
    return ""


def _start(runs: Path, result: AnalysisResult, model: str | None) -> None:
    record = result.provenance
    known: dict[str, Any] = get_analysis(result.name).Params.model_fields
    settings = {name: value for name, value in record.parameters.items() if name in known}
    try:
        jobs.start(
            runs, result.name, model, settings, interventions=record.interventions_json,
            name=run_name(result.name, record.model),
        )  # fmt: skip
    except InputError as fault:
        st.session_state["runs/again/refused"] = str(fault)


def _or_nothing(name: str) -> str:
    return "nothing: one run alone" if name == NONE else name
