"""Phase diagrams: the theory beside trained toys, and the toy of one point."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st
import torch

from analyses import AnalysisResult
from analyses.superposition.families import phase_toy
from analyses.superposition.phase_tables import THEORY, TRAINED
from dashboards.drawing import figures
from dashboards.drawing.theme import is_dark
from dashboards.drawing.wording import plain
from dashboards.page.address import Choices
from dashboards.views.superposition import sources, toy_view
from dashboards.views.superposition.sources import Source
from dashboards.views.superposition.toy_view import Scales, Shown
from interp.charts import Chart
from interp.charts.palette import theme
from interp.toys.geometry import recognise
from interp.toys.theory import REGIONS

if TYPE_CHECKING:
    import plotly.graph_objects as go

ANALYSIS = "superposition-phase"
DEFAULT = "shipped:phase-diagrams"
NAMES = ("phase", "size", "colour", "row", "column")
TOLERANCE = 5.0  # degrees, of shapes
SOURCES = (THEORY, TRAINED)
MEASURES = {
    "region": "What becomes of the extra feature",
    "norm": "Its norm ‖W_n‖",
    "shared": "Its superposition Σ_{j≠n} (Ŵ_n·W_j)², where it is represented",
}


def show(choices: Choices, runs: Path) -> None:
    """Draw the section.

    Args:
        choices: Of the page.
        runs: Where results are saved.
    """
    columns = st.columns(3)
    with columns[0]:
        source = sources.choose(choices, "phase", "Diagram", runs, ANALYSIS.__eq__, DEFAULT)
    result = sources.load(source)
    points = result.tables["points"]
    sizes = points["size"].drop_duplicates().tolist()
    with columns[1]:
        size = choices.choice("size", "Features and dimensions", sizes, sizes[0])
    with columns[2]:
        measure = choices.choice(
            "colour", "Colour", list(MEASURES), "region", show=MEASURES.__getitem__
        )
    sources.tell(source, result)
    points = points[points["size"] == size]
    row, column = _point(choices, points)
    _diagrams(choices, source, result, size, measure, row, column)
    _toy(source, result, points, size, row, column)
    st.subheader("How far theory and toys agree")
    code = f"{source.code}\ntable = result.tables['agreement']\n"
    figures.table(result.tables["agreement"], "superposition/phase/agreement", "agreement", code)


def _point(choices: Choices, points: pd.DataFrame) -> tuple[int, int]:
    """The point that is looked at: by boxes, which follow clicks."""
    densities = points.drop_duplicates("row").sort_values("row")["density"].tolist()
    extra = points.drop_duplicates("column").sort_values("column")["relative_importance"].tolist()
    left, right = st.columns(2)
    with left:
        row = choices.choice(
            "row", "Density 1-S", range(len(densities)), len(densities) // 2,
            show=lambda k: f"{densities[k]:.3g}",
        )  # fmt: skip
    with right:
        column = choices.choice(
            "column", "Importance of the extra feature, times the others'", range(len(extra)),
            len(extra) // 2, show=lambda k: f"{extra[k]:.3g} ×",
        )  # fmt: skip
    return row, column


def _diagrams(
    choices: Choices,
    source: Source,
    result: AnalysisResult,
    size: str,
    measure: str,
    row: int,
    column: int,
) -> None:
    maps = result.tables["maps"]
    table = maps[maps["size"] == size].reset_index(drop=True)
    regions = ", ".join(f"{k} {name}" for k, name in enumerate(REGIONS))
    key_told = f" ({regions})" if measure == "region" else ""
    drawn = Chart(
        kind="heatmap",
        table="maps",
        title=f"{MEASURES[measure]}{key_told}: theory, and the best of the trained toys",
        alt=(
            f"{MEASURES[measure]}{key_told}, by density, sparser downwards, and by its importance "
            "relative to the others', rising to the right. Unimportant dense features are not "
            "represented, important ones have a dimension to themselves; between them a wedge of "
            f"superposition opens as features get sparser. {_agreement(result, size)} "
            "Click a place to see its toy below."
        ),
        x="column",
        y="row",
        value=measure,
        facet="source",
        x_text="importance_text",
        y_text="density_text",
        x_label="relative importance",
        y_label="density 1-S",
        value_label="fate" if measure == "region" else measure,
    )
    key = f"superposition/phase/maps/{row}/{column}"

    def pick() -> None:
        for point in st.session_state[key]["selection"]["points"]:
            if point.get("customdata"):
                at, down = point["customdata"][:2]
                choices.keep("column", str(int(at)))
                choices.keep("row", str(int(down)))

    def adjust(figure: go.Figure) -> None:
        if measure == "region":
            _colour_by_fate(figure)
        _outline(figure, row, column)
        for axis in figure.select_xaxes():  # every second label: all would lean on one another
            axis.update(tickvals=axis.tickvals[::2], ticktext=axis.ticktext[::2])
        for note in figure.layout.annotations:  # the size is chosen above, and a phone is narrow
            note.text = note.text.removeprefix(f"{size}, ")

    code = (
        f"{source.code}\n"
        "maps = result.tables['maps']\n"
        f"table = maps[maps['size'] == {size!r}].reset_index(drop=True)\n"
    )
    figures.chart(
        drawn, table, key, height=470, code=code, adjust=adjust, on_select=pick,
        selection_mode="points",
    )  # fmt: skip


def _agreement(result: AnalysisResult, size: str) -> str:
    table = result.tables["agreement"]
    away = table[(table["size"] == size) & (table["points"] == "away from boundaries")]
    if away.empty or not away["count"].iloc[0]:
        return ""
    best, count, each = (
        away[name].iloc[0] for name in ("agreement", "count", "single_toy_agreement")
    )
    return (
        f"Away from boundaries the best toys agree with the theory at {best:.1%} of {count} points,"
        f" and {each:.1%} of all toys do."
    )


def _colour_by_fate(figure: go.Figure) -> None:
    """Three fates are three colours, not a scale."""
    colors = theme(is_dark())
    hues = [colors.blank, colors.sequential[3], colors.sequential[-2]]
    stops = [
        [place / len(REGIONS), hue] for k, hue in enumerate(hues) for place in (k, k + 1)
    ]  # fmt: skip
    figure.update_layout(
        coloraxis={
            "cmin": -0.5,
            "cmax": len(REGIONS) - 0.5,
            "colorscale": stops,
            "colorbar": {
                "tickvals": list(range(len(REGIONS))),
                "ticktext": [name.replace(" ", "<br>") for name in REGIONS],
                "title": None,
                "thickness": 14,
            },
        }
    )


def _outline(figure: go.Figure, row: int, column: int) -> None:
    """A frame around the chosen point, in each panel."""
    colors = theme(is_dark())
    for number in range(1, len(SOURCES) + 1):
        suffix = "" if number == 1 else str(number)
        figure.add_shape(
            type="rect", xref=f"x{suffix}", yref=f"y{suffix}", x0=column - 0.5, x1=column + 0.5,
            y0=row - 0.5, y1=row + 0.5, line={"color": colors.accent, "width": 3},
        )  # fmt: skip


def _toy(
    source: Source, result: AnalysisResult, points: pd.DataFrame, size: str, row: int, column: int
) -> None:
    point = points[(points["row"] == row) & (points["column"] == column)].iloc[0]
    st.subheader(
        f"At density {point['density']:.3g}, importance {point['relative_importance']:.3g} ×"
    )
    st.markdown(
        plain(
            f"The theory: {point['region_name']}, exact loss {point['loss']:.4g}; the next best "
            f"fate costs {point['margin']:.1%} more. The best toy: {point['best_region_name']}, "
            f"{_excess(float(point['excess']))}; {point['share']:.0%} of the toys trained here "
            "have the fate of the theory."
        )
    )
    Ws = [phase_toy(result, size, row, column, trained=name == TRAINED) for name in SOURCES]
    scales = Scales.of(torch.stack(Ws))
    for part, name, W in zip(st.columns(2), SOURCES, Ws, strict=True):
        with part:
            code = (
                f"{source.code}\n"
                "from analyses.superposition import one_toy\n"
                "from analyses.superposition.families import phase_toy\n\n"
                f"W = phase_toy(result, {size!r}, {row}, {column}, trained={name == TRAINED})\n"
            )
            about = "the theory's best solution" if name == THEORY else "the best toy"
            shown = Shown(about, W, None, TOLERANCE, scales, code)
            key = f"superposition/phase/{'theory' if name == THEORY else 'toy'}"
            geometry = recognise(W, TOLERANCE)
            st.markdown(f"**{about.capitalize()}: {plain(toy_view.shape_in_words(geometry))}**")
            toy_view.directions(shown, geometry, key)
            toy_view.products(shown, key)
    st.caption(
        f"The extra feature is the last one, number {Ws[0].shape[1] - 1}. Rotations and "
        "reflections of a toy are as good as it is."
    )


def _excess(excess: float) -> str:
    if excess < 0:
        return f"its loss {-excess:.2%} below the theory's least"
    return f"its loss {excess:.2%} above the theory's least"
