"""One toy on a page: its polytope, weights, products, and measures of each feature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st
from jaxtyping import Float
from torch import Tensor

from analyses.superposition import one_toy
from dashboards.drawing import figures
from dashboards.drawing.wording import plain
from dashboards.views.superposition import polytope
from interp.toys.geometry import Geometry, recognise
from interp.toys.measures import dimensions_per_feature, feature_norms, superposition

Number = tuple[str, str, str]  # its name, the number, what it is
_ROOM = 1.02  # beyond the largest number of a scale


@dataclass(frozen=True)
class Scales:
    """The ends of the scales that toys share which are seen one after another."""

    weight: float
    product: float
    norm: float
    superposition: float

    @staticmethod
    def of(
        W: Float[Tensor, "*toys d_hidden feature"],
        W_out: Float[Tensor, "*toys feature d_hidden"] | None = None,
        hidden: str = "linear",
    ) -> Scales:
        """Of all these toys together."""
        products = one_toy.written(W, W_out, hidden)
        most = (W.abs(), products.abs(), feature_norms(W), superposition(W))
        return Scales(*(_ROOM * (float(each.max()) or 1.0) for each in most))


@dataclass(frozen=True)
class Shown:
    """A toy that is looked at.

    Attributes:
        about: Which it is, in a few words.
        W: The way in.
        W_out: The way back; None where it is Wᵀ.
        tolerance: Degrees by which angles may be off a shape's.
        scales: Shared with the toys beside it.
        code: Python that defines `W`, and `W_out` unless that is None; None: there is none yet.
        hidden: Activation of the hidden layer, `linear` or `relu`.
    """

    about: str
    W: Float[Tensor, "d_hidden feature"]
    W_out: Float[Tensor, "feature d_hidden"] | None
    tolerance: float
    scales: Scales
    code: str | None
    hidden: str = "linear"

    def script(self, call: str) -> str | None:
        """Python that makes one of the tables."""
        return None if self.code is None else f"{self.code}\ntable = one_toy.{call}\n"


def panels_height(count: int) -> int:
    """Pixels for so many square panels, four in a row."""
    return 100 + 215 * -(-count // 4)


def shape_in_words(geometry: Geometry) -> str:
    """What features have become: the polytope's name, its parts, how exact it is."""
    solid, parts = geometry.solid, geometry.summary
    text = parts if solid is None or solid == parts else f"{solid} ({parts})"
    named = [part.deviation for part in geometry.parts if part.is_named and len(part.features) > 1]
    if named:
        text += f"; angles within {max(named):.1f}° of the shape's"
    absent = len(geometry.absent)
    return text + (f"; {absent} feature{'s' * (absent > 1)} absent" if absent else "")


def headline(shown: Shown, geometry: Geometry, more: Sequence[Number] = ()) -> None:
    """The recognised geometry in large, numbers beside it."""
    n_features = shown.W.shape[1]
    numbers = [
        (
            "Features represented",
            f"{n_features - len(geometry.absent)} of {n_features}",
            "Those with at least a quarter of the largest norm.",
        ),
        (
            "Dimensions per feature D*",
            f"{float(dimensions_per_feature(shown.W)):.3f}",
            "m / ‖W‖², of the Frobenius norm: absent features count for nothing.",
        ),
        *more,
    ]
    about = shown.about[:1].upper() + shown.about[1:]
    st.markdown(f"**{plain(about)}: {plain(shape_in_words(geometry))}**")
    for column, (name, value, about) in zip(st.columns(len(numbers)), numbers, strict=True):
        column.metric(name, value, help=about)
    if shown.W_out is not None or shown.hidden == "relu":
        st.caption(
            "Shapes, norms, superposition and dimensionality are those of the way in, W: they do "
            "not see what the hidden layer's ReLU or a way back of its own makes of it."
        )


def draw(shown: Shown, key: str, more: Sequence[Number] = ()) -> None:
    """Draw all of a toy.

    Args:
        shown: The toy.
        key: Begins the keys of its figures.
        more: Numbers for the headline.
    """
    geometry = recognise(shown.W, shown.tolerance)
    headline(shown, geometry, more)
    left, right = st.columns(2)
    with left:
        directions(shown, geometry, key)
    with right:
        products(shown, key)
    measures(shown, geometry, key)
    chart = one_toy.weights_chart(shown.scales.weight, shown.about)
    d_hidden = shown.W.shape[0]
    figures.chart(
        chart,
        one_toy.weights(shown.W),
        f"{key}/weights",
        height=150 + 26 * d_hidden,
        code=shown.script("weights(W)"),
    )


def directions(shown: Shown, geometry: Geometry, key: str) -> None:
    """Draw the polytope."""
    table = one_toy.directions(shown.W, shown.tolerance)
    told = f"The shape: {shape_in_words(geometry)}."
    edges = one_toy.edges(shown.W, geometry)
    code = shown.script(f"directions(W, {shown.tolerance!r})")
    d_hidden = shown.W.shape[0]
    if d_hidden <= 2:
        chart = one_toy.directions_chart(1.15 * shown.scales.norm, shown.about, told)
        polytope.flat(chart, table, edges, f"{key}/directions", code)
        return
    alt = f"Each feature of {shown.about} as a line from the centre, in three dimensions. {told}"
    if d_hidden > len(one_toy.AXES):
        alt += (
            f" The toy has {d_hidden} dimensions: it is seen along its three principal directions, "
            f"which keep {table['kept'].iloc[0]:.0%} of the squares; lengths and angles are "
            "distorted."
        )
    polytope.solid(table, edges, shown.scales.norm, f"{key}/directions", alt, code)


def products(shown: Shown, key: str) -> None:
    """Draw WᵀW, or W_out W."""
    tied = shown.W_out is None
    chart = one_toy.products_chart(shown.scales.product, tied, shown.about, shown.hidden)
    way_back = "None" if tied else "W_out"
    figures.chart(
        chart,
        one_toy.products(shown.W, shown.W_out, shown.hidden),
        f"{key}/products",
        height=polytope.HEIGHT if shown.W.shape[0] > 1 else polytope.FLAT,
        code=shown.script(f"products(W, {way_back}, {shown.hidden!r})"),
    )


def measures(shown: Shown, geometry: Geometry, key: str) -> None:
    """Draw norms, superposition and dimensionalities of the features."""
    table = one_toy.measures(shown.W, shown.tolerance)
    told = {
        "norm": f"{shown.W.shape[1] - len(geometry.absent)} features are represented.",
        "shared": "0: a feature shares its direction with no other.",
        "dimensionality": f"They sum to {table['dimensionality'].sum():.2f} of "
        f"{shown.W.shape[0]} dimensions.",
    }
    most = {"norm": shown.scales.norm, "shared": shown.scales.superposition}
    for column, measure in zip(st.columns(3), told, strict=True):
        with column:
            chart = one_toy.measure_chart(
                measure, most.get(measure, 1.0), shown.about, told[measure]
            )
            figures.chart(
                chart,
                table,
                f"{key}/{measure}",
                height=260,
                code=shown.script(f"measures(W, {shown.tolerance!r})"),
            )
