"""Learning dynamics: dimensionalities and losses over training, and the toy at one step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from analyses.superposition import one_toy
from analyses.superposition.families import Family, has_toys
from dashboards.drawing import figures
from dashboards.drawing.theme import is_dark
from dashboards.page.address import Choices
from dashboards.views.superposition import sources, toy_view
from dashboards.views.superposition.controls import slider
from dashboards.views.superposition.look import loss_of, toy_of
from dashboards.views.superposition.sources import Source
from interp.charts import Chart
from interp.charts.palette import theme

if TYPE_CHECKING:
    import plotly.graph_objects as go

DEFAULT = "shipped:dynamics"
NAMES = ("dynamics", "toy", "p", "at")


def show(choices: Choices, runs: Path) -> None:
    """Draw the section.

    Args:
        choices: Of the page.
        runs: Where results are saved.
    """
    source, number, family = sources.choose_family(
        choices, ("dynamics", "toy"), runs, _has_history, DEFAULT
    )
    if len(family.steps) == 1:
        st.info("Of these toys only the end was kept: train with n_snapshots of 2 or more.")
        return
    density = slider(
        choices, "p", "Density 1-S", family.densities, family.densities[-1], show="{:g}".format
    )
    step = slider(
        choices, "at", "Step of training", family.steps, family.steps[-1], show="{:,}".format,
        help="Move it with the arrow keys.",
    )  # fmt: skip
    at, when = family.densities.index(density), family.steps.index(step)
    _over_time(source, family, number, at, step)
    shown = toy_of(source, family, number, at, when)
    toy_view.draw(shown, "superposition/dynamics", loss_of(family, at, when))


def _has_history(analysis: str) -> bool:
    return has_toys(analysis) and analysis != "superposition-intro"


def _over_time(source: Source, family: Family, number: int, at: int, step: int) -> None:
    code = source.family_code(number)
    about = f"{family.name}, density {family.densities[at]:g}"
    table = one_toy.over_time(family.W[at], family.steps)
    drawn = Chart(
        kind="line",
        table="over-time",
        title="Dimensionality of each feature over training",
        alt=f"A line for each feature of {about}. Where one goes from a level to another, features "
        "have changed their arrangement: 1/2 is a digon's, 0 an absent feature's.",
        x="step",
        y="dimensionality",
        color="feature",
        y_label="D_i",
        probability=True,
    )
    mark = _marking(step)
    left, right = st.columns([3, 2])
    with left:
        key = "superposition/dynamics/over-time"
        whole = f"{code}table = one_toy.over_time(family.W[{at}], family.steps)\n"
        figures.chart(drawn, table, key, height=340, code=whole, adjust=mark)
    if family.loss is None:
        return
    losses = family.loss[at].tolist()
    with right:
        drawn = Chart(
            kind="line",
            table="losses",
            title="Loss",
            alt=f"The loss of {about}, {family.losses_are}: {losses[0]:.3g} at first, "
            f"{losses[-1]:.3g} in the end. See whether it falls fast where dimensionalities move.",
            x="step",
            y="loss",
            log_y=True,
        )
        table = one_toy.losses(losses, family.steps)
        whole = f"{code}table = one_toy.losses(family.loss[{at}].tolist(), family.steps)\n"
        key = "superposition/dynamics/losses"
        figures.chart(drawn, table, key, height=340, code=whole, adjust=mark)


def _marking(step: int) -> Callable[[go.Figure], None]:
    def mark(figure: go.Figure) -> None:
        colors = theme(is_dark())
        figure.add_vline(x=step, line={"color": colors.accent, "width": 2})
        if len(figure.data) > 1:  # many features: names are told under the pointer
            figure.update_layout(showlegend=len(figure.data) <= 12)

    return mark
