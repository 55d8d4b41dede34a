"""Toys of the reader's own settings, trained in a worker and drawn as they learn."""

from __future__ import annotations

import math
from pathlib import Path
from textwrap import shorten
from typing import Any

import streamlit as st

from analyses.registry import validate_params
from analyses.superposition import one_toy
from analyses.superposition.toys import SuperpositionToys, ToysParams
from dashboards import jobs
from dashboards.drawing import figures
from dashboards.drawing.theme import is_dark
from dashboards.drawing.wording import plain
from dashboards.jobs import Job, toy_snapshots
from dashboards.jobs.store import UNFINISHED
from dashboards.jobs.toy_snapshots import Snapshot
from dashboards.page.address import Choices
from dashboards.views.superposition import side_by_side, toy_view
from dashboards.views.superposition.controls import slider
from dashboards.views.superposition.toy_view import Scales, Shown, panels_height
from interp.charts import Chart
from interp.charts.palette import theme
from interp.errors import InputError, require
from interp.toys.geometry import recognise

KIND = "toys"
EVERY, BETWEEN_FIGURES = 1.0, 2.0  # seconds between looks at a worker, and at its toys
MOST_WORK = 2_000_000_000  # toys × steps × examples × features: a few minutes of one core
WORTH_COMPILING = MOST_WORK // 4
MOST_OF_FAULT = 300  # characters of a message: it may hold all that was typed
ACTIVATIONS = {
    "relu": "ReLU at the output",
    "linear": "Linear: no ReLU",
    "hidden": "ReLU in the hidden layer too",
}
TARGETS = {"identity": "The features", "absolute": "Their sizes |x| (untied)"}
RELATIONS = {
    "independent": "Independent",
    "correlated": "Correlated pairs",
    "anticorrelated": "Anticorrelated pairs",
}
NAMES = (
    "n", "m", "densities", "importance", "activation", "target", "relation", "seeds", "steps",
    "batch", "rate", "start", "seed", "job", "seen",
)  # fmt: skip


def show(choices: Choices, runs: Path) -> None:
    """Draw the section.

    Args:
        choices: Of the page.
        runs: Where results are saved.
    """
    settings, text = _settings(choices)
    try:
        settings["densities"] = read_densities(text)
    except InputError as unreadable:
        fault = str(unreadable)
    else:
        fault = fault_of(settings)
        if not fault and _work(settings) < WORTH_COMPILING:
            settings["compiled"] = False  # toys are seen from the first second on
    if fault:
        st.error(plain(shorten(fault, MOST_OF_FAULT, placeholder=" …")))

    def train() -> None:
        try:
            job = jobs.start(
                runs, SuperpositionToys.name, settings=settings, name="toys", kind=KIND
            )
        except InputError as refused:
            st.session_state["superposition/refused"] = str(refused)
        else:
            choices.keep("job", job.id)

    columns = st.columns([1, 4], vertical_alignment="center")
    with columns[0]:
        st.button(
            "Train", type="primary", on_click=train, disabled=bool(fault), width="stretch",
            key="superposition/train",
        )  # fmt: skip
    with columns[1]:
        count = 0 if fault else len(settings["densities"]) * settings["n_seeds"]
        toys = f"{count} toys are trained at once" if count else "Toys are trained"
        st.caption(
            f"{toys}, in a process of its own; this page may be closed meanwhile. The result is "
            "saved among the runs."
        )
    refused = st.session_state.pop("superposition/refused", None)
    if refused is not None:
        st.error(plain(refused))
    _job(choices, runs)


def _settings(choices: Choices) -> tuple[dict[str, Any], str]:
    """Parameters of `superposition-toys`, from the widgets; and densities, as they were typed."""
    default = ToysParams.model_validate({})
    first = st.columns(4)
    with first[0]:
        n_features = choices.number("n", "Features n", default.n_features, 2, 20, 1)
    with first[1]:
        d_hidden = choices.number("m", "Hidden dimensions m", default.d_hidden, 1, 5, 1)
    with first[2]:
        importance = choices.number(
            "importance", "Importance ratio", default.importance, 0.1, 1.0,
            0.05, help="Of each feature's importance to the one before; 1: all are alike.",
        )  # fmt: skip
    with first[3]:
        activation = choices.choice(
            "activation", "Activation", list(ACTIVATIONS), "relu", show=ACTIVATIONS.__getitem__
        )
    second = st.columns(4)
    with second[0]:
        densities = choices.line(
            "densities", "Densities 1-S", ", ".join(f"{p:g}" for p in default.densities),
            help="How likely each feature is not zero: numbers above 0 and at most 1, with commas "
            "between. A toy is trained for each.",
        )  # fmt: skip
    with second[1]:
        target = choices.choice(
            "target", "The output should be", list(TARGETS), "identity", show=TARGETS.__getitem__
        )
    with second[2]:
        relation = choices.choice(
            "relation", "Features are", list(RELATIONS), "independent", show=RELATIONS.__getitem__,
            help="Pairs are features 0 and 1, 2 and 3, …. Correlated: both are there or neither; "
            "anticorrelated: never both.",
        )  # fmt: skip
    with second[3]:
        n_seeds = choices.number(
            "seeds", "Toys of each density", default.n_seeds, 1, 20, 1, help="The best is drawn."
        )
    third = st.columns(5)
    with third[0]:
        steps = choices.number("steps", "Steps", default.steps, 50, 20_000, 50)
    with third[1]:
        batch = choices.number("batch", "Examples a step", default.batch_size, 8, 2048, 8)
    with third[2]:
        rate = choices.number(
            "rate", "Learning rate", default.lr, 0.0001, 0.5, 0.001, format="%.4f"
        )
    with third[3]:
        start = choices.number(
            "start", "Initial weights, times Xavier's", default.init_scale, 0.01, 3.0, 0.05
        )
    with third[4]:
        seed = choices.number("seed", "Seed", default.seed, 0, 1_000_000, 1)
    settings: dict[str, Any] = {
        "n_features": n_features,
        "d_hidden": d_hidden,
        "importance": importance,
        "hidden": "relu" if activation == "hidden" else "linear",
        "output": "linear" if activation == "linear" else "relu",
        "n_seeds": n_seeds,
        "steps": steps,
        "batch_size": batch,
        "lr": rate,
        "init_scale": start,
        "seed": seed,
        "n_snapshots": min(default.n_snapshots, steps),
    }
    if target == "absolute":
        settings |= {"target": "absolute", "values": "signed", "tied": False}
    if relation != "independent":
        settings["correlation"] = 1.0 if relation == "correlated" else -1.0
    return settings, densities


def read_densities(text: str) -> list[float]:
    """Numbers with commas between.

    Raises:
        InputError: If a part is no number.
    """
    found = []
    for part in filter(None, (each.strip() for each in text.split(","))):
        try:
            found.append(float(part))
        except ValueError:
            raise InputError(
                f"densities are numbers with commas between. Received {part!r}."
            ) from None
    require(bool(found), "densities are numbers with commas between. Received none")
    return found


def fault_of(settings: dict[str, Any]) -> str:
    """Why these settings cannot be trained here; empty where they can."""
    try:
        validate_params(SuperpositionToys, settings)
    except InputError as fault:
        return str(fault)
    dense = max(settings["densities"])
    if settings.get("correlation", 0.0) < 0 and dense > 0.5:
        return (
            "features of a pair that exclude one another are each there half of the time at most: "
            f"densities must be at most 0.5. Received {dense:g}."
        )
    work = _work(settings)
    if work > MOST_WORK:
        return (
            f"toys × steps × examples × features must be at most {MOST_WORK:,} here: train fewer "
            f"toys or less, or use `interp run {SuperpositionToys.name}`. Received {work:,}."
        )
    return ""


def _work(settings: dict[str, Any]) -> int:
    """Toys × steps × examples × features."""
    counts = ("n_seeds", "steps", "batch_size", "n_features")
    return math.prod(settings[name] for name in counts) * len(settings["densities"])


def _job(choices: Choices, runs: Path) -> None:
    """The job that the address names."""
    id = choices.asked("job", "")
    if id is None:
        return
    choices.shown["job"] = id
    try:
        job = jobs.get(runs, id)
        if job.request.kind != KIND:
            raise InputError(f"the job {id!r} trains no toys.")
    except InputError as fault:
        st.warning(f"{plain(fault)} Toys that were trained to their end are among the runs.")
        del choices.kept["job"], choices.shown["job"]
        return
    settings = ToysParams.model_validate(job.request.settings)
    density = None
    if settings.d_hidden > 2:  # of flat ones all are drawn at once
        densities = settings.densities
        density = slider(
            choices, "seen", "Density 1-S", densities, densities[-1], show="{:g}".format
        )
    under_way = job.state in UNFINISHED
    # Apart, so that the bar and the button need not wait for figures.
    st.fragment(_progress, run_every=EVERY if under_way else None)(choices, job, under_way)
    st.fragment(_toys, run_every=BETWEEN_FIGURES if under_way else None)(density, job)


def _progress(choices: Choices, job: Job, was_under_way: bool) -> None:
    state, progress, outcome = job.state, job.progress, job.outcome
    if was_under_way and state not in UNFINISHED:
        st.rerun()  # the whole page: nothing is to be waited for any more
    if state in UNFINISHED:
        bar, button = st.columns([5, 1], vertical_alignment="center")
        with bar:
            done = None if progress is None else progress.done
            line = "waiting for its turn" if progress is None else progress.line
            st.progress(
                min(max(done or 0.0, 0.0), 1.0), text=plain(f"{line} · {job.seconds:.0f} s")
            )
        with button:
            st.button("Cancel", on_click=job.cancel, width="stretch", key="superposition/cancel")
    elif outcome is not None and outcome.state == "done" and outcome.run is not None:
        st.success(plain(f"Trained in {job.seconds:.0f} s, saved as {outcome.run}."))
        _links(choices, outcome.run)
    elif outcome is not None and outcome.state == "cancelled":
        seen = toy_snapshots.read(job.folder) is not None
        drawn = "What the toys had become is drawn below; nothing" if seen else "Nothing"
        st.info(f"Cancelled. {drawn} was saved.")
    elif outcome is not None:
        st.error(plain(f"It failed: {outcome.fault}"))
        st.code(job.log() or "It printed nothing.", language=None, wrap_lines=True)


def _links(choices: Choices, run: str) -> None:
    def go(section: str, name: str) -> None:
        choices.keep("section", section)
        choices.keep(name, f"run:{run}")

    with st.container(horizontal=True):
        st.button("Look at the toys", on_click=go, args=("look", "toys"), key="superposition/go")
        st.button(
            "How they got there", on_click=go, args=("dynamics", "dynamics"),
            key="superposition/go/dynamics",
        )  # fmt: skip
        st.button(
            "Tables and checks", on_click=go, args=("results", "open"),
            key="superposition/go/results",
        )  # fmt: skip


def _toys(density: float | None, job: Job) -> None:
    """What the toys are at the latest snapshot: their directions, shapes and losses."""
    seen = toy_snapshots.read(job.folder)
    if seen is None:
        return
    settings = ToysParams.model_validate(job.request.settings)
    tolerance = settings.tolerance
    code = None
    if job.state == "done":  # before, nothing that can be run again stops at this step
        code = (
            "from analyses import run_analysis\n"
            "from analyses.superposition import one_toy\n"
            "from analyses.superposition.families import families_of\n\n"
            f"result = run_analysis({job.request.analysis!r}, **{job.request.settings!r})\n"
            "family = families_of(result)[0]\n"
        )
    st.markdown(f"**After {seen.step:,} of {settings.steps:,} steps**")
    if density is None and code is None:
        drawn = side_by_side.figure(
            seen.W, seen.densities, Scales.of(seen.W).norm, theme(is_dark())
        )
        alt = (
            "Columns of W at each density: each feature is a line from the centre of its toy, as "
            "it is now."
        )
        figures.plot(drawn, alt, "superposition/train/now")
    elif density is None:
        rows = one_toy.directions_by_density(seen.W, seen.densities)
        chart = one_toy.directions_by_density_chart(1.1 * Scales.of(seen.W).norm)
        call = "directions_by_density(family.W[:, -1], family.densities)"
        figures.chart(
            chart, rows, "superposition/train/directions", height=panels_height(len(seen.W)),
            code=None if code is None else f"{code}table = one_toy.{call}\n",
        )  # fmt: skip
    left, right = st.columns(2)
    with left:
        _losses(seen, code)
    with right:
        if density is not None:
            at = seen.densities.index(density)
            shown = Shown(
                about=f"the toy of density {density:g}",
                W=seen.W[at],
                W_out=None if seen.W_out is None else seen.W_out[at],
                tolerance=tolerance,
                scales=Scales.of(seen.W, seen.W_out, settings.hidden),
                hidden=settings.hidden,
                code=None if code is None else f"{code}W = family.W[{at}, -1]\n",
            )
            toy_view.directions(shown, recognise(shown.W, tolerance), "superposition/train")
        call = f"shapes(family.W[:, -1], family.densities, {tolerance!r})"
        figures.table(
            one_toy.shapes(seen.W, seen.densities, tolerance),
            "superposition/train/shapes",
            "shapes-by-density",
            None if code is None else f"{code}table = one_toy.{call}\n",
        )


def _losses(seen: Snapshot, code: str | None) -> None:
    table = one_toy.losses_by_density(seen.losses, seen.steps, seen.densities)
    call = "losses_by_density(family.loss.mT, family.steps, family.densities)"
    drawn = Chart(
        kind="line",
        table="losses",
        title="Loss of the best toy of each density",
        alt=f"A line for each of {len(seen.densities)} densities, up to step {seen.step:,}.",
        x="step",
        y="loss",
        color="condition",
        y_label="loss on held-out examples",
        log_y=True,
    )
    figures.chart(
        drawn, table, "superposition/train/losses", height=400,
        code=None if code is None else f"{code}table = one_toy.{call}\n",
    )  # fmt: skip
