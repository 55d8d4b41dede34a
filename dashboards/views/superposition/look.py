"""Toys by density: one at a time on a slider, and all in an overview."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from analyses.superposition import one_toy
from analyses.superposition.families import Family, has_toys
from dashboards.drawing import figures
from dashboards.page.address import Choices
from dashboards.views.superposition import sources, toy_view
from dashboards.views.superposition.controls import slider
from dashboards.views.superposition.sources import Source
from dashboards.views.superposition.toy_view import Scales, Shown
from interp.charts import Chart

DEFAULT = "shipped:five-in-two-dimensions"
NAMES = ("toys", "family", "density", "step")


def show(choices: Choices, runs: Path) -> None:
    """Draw the section.

    Args:
        choices: Of the page.
        runs: Where results are saved.
    """
    source, number, family = sources.choose_family(
        choices, ("toys", "family"), runs, has_toys, DEFAULT
    )
    left, right = st.columns(2)
    with left:
        sparsest = family.densities[-1]
        density = slider(
            choices, "density", "Density 1-S", family.densities, sparsest, show="{:g}".format,
            help="How likely each feature is not zero. Dense on the left, sparse on the right.",
        )  # fmt: skip
    with right:
        step = slider(choices, "step", "Step of training", family.steps, family.steps[-1])
    at, when = family.densities.index(density), family.steps.index(step)
    shown = toy_of(source, family, number, at, when)
    toy_view.draw(shown, "superposition/look", loss_of(family, at, when))
    _overview(choices, source, family, number, when)


def loss_of(family: Family, at: int, when: int) -> list[toy_view.Number]:
    """The loss of one toy of a family for its headline, where it was kept."""
    if family.loss is None:
        return []
    return [("Loss", f"{float(family.loss[at, when]):.3g}", f"It is {family.losses_are}.")]


def toy_of(source: Source, family: Family, number: int, at: int, when: int) -> Shown:
    """One toy of a family, ready to be drawn.

    Args:
        source: Where it is from.
        family: That it is one of.
        number: Of the family in its result.
        at: The density's place.
        when: The step's place.
    """
    untied = family.W_out is not None
    code = f"{source.family_code(number)}W = family.W[{at}, {when}]\n"
    if untied:
        code += f"W_out = family.W_out[{at}, {when}]\n"
    about = f"the toy of density {family.densities[at]:g}"
    if len(family.steps) > 1:
        about += f" after {family.steps[when]:,} steps"
    return Shown(
        about=about,
        W=family.W[at, when],
        W_out=None if family.W_out is None else family.W_out[at, when],
        tolerance=family.tolerance,
        scales=Scales.of(family.W, family.W_out, family.hidden),
        code=code,
        hidden=family.hidden,
    )


def _overview(choices: Choices, source: Source, family: Family, number: int, when: int) -> None:
    if len(family.densities) == 1:
        return
    st.subheader("All densities")
    code = source.family_code(number)
    if family.W.shape[-2] <= 2:
        call = f"directions_by_density(family.W[:, {when}], family.densities)"
        figures.chart(
            one_toy.directions_by_density_chart(1.1 * Scales.of(family.W).norm),
            one_toy.directions_by_density(family.W[:, when], family.densities),
            "superposition/look/all",
            height=toy_view.panels_height(len(family.densities)),
            code=f"{code}table = one_toy.{call}\n",
        )
    table = one_toy.by_density(family.W[:, when], family.densities)
    chart = Chart(
        kind="heatmap",
        table="by-density",
        title="Dimensionality of each feature",
        alt="A row for each density, the densest on top; 1 where a feature has a dimension to "
        "itself, less where it shares one, 0 where it is absent. Click a row to see its toy.",
        x="feature",
        y="place",
        y_text="density_text",
        y_label="density 1-S",
        value="dimensionality",
        value_label="D_i",
        probability=True,
    )
    key = f"superposition/look/overview/{choices.shown['density']}"

    def pick() -> None:
        for point in st.session_state[key]["selection"]["points"]:
            if point.get("customdata"):
                place = int(point["customdata"][1])
                choices.keep("density", str(family.densities[place]))

    left, right = st.columns(2)
    with left:
        figures.chart(
            chart, table, key, on_select=pick, selection_mode="points",
            code=f"{code}table = one_toy.by_density(family.W[:, {when}], family.densities)\n",
        )  # fmt: skip
    with right:
        call = f"shapes(family.W[:, {when}], family.densities, {family.tolerance!r})"
        figures.table(
            one_toy.shapes(family.W[:, when], family.densities, family.tolerance),
            "superposition/look/shapes",
            "shapes-by-density",
            f"{code}table = one_toy.{call}\n",
        )
