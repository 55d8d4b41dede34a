"""One toy as tables and charts: its weights, what it makes of them, and its polytope."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.charts.spec import Chart
from interp.errors import require
from interp.toys.geometry import Geometry, recognise, recognise_each
from interp.toys.hull import MOST_CORNERS, hull_edges
from interp.toys.measures import (
    dimensions_per_feature,
    feature_dimensionality,
    feature_norms,
    superposition,
)

ABSENT = "absent"
AXES = "xyz"


def weights(W: Float[Tensor, "d_hidden feature"]) -> pd.DataFrame:
    """A row for each weight of the way in."""
    return _cells(W, "hidden", "feature", "weight")


def products(
    W: Float[Tensor, "d_hidden feature"],
    W_out: Float[Tensor, "feature d_hidden"] | None = None,
    hidden: str = "linear",
) -> pd.DataFrame:
    """A row for each feature and output: what the feature, alone and 1, writes there.

    That is before the bias and the output's activation: WᵀW, or W_out W where the way back has
    weights of its own; with a ReLU in the hidden layer Wᵀ ReLU(W) or W_out ReLU(W).
    """
    return _cells(written(W, W_out, hidden), "output", "feature", "product")


def written(
    W: Float[Tensor, "*toys d_hidden feature"],
    W_out: Float[Tensor, "*toys feature d_hidden"] | None = None,
    hidden: str = "linear",
) -> Float[Tensor, "*toys feature feature"]:
    """What each feature (the last axis), alone and 1, writes onto each output."""
    return (W.mT if W_out is None else W_out) @ (W.relu() if hidden == "relu" else W)


def measures(W: Float[Tensor, "d_hidden feature"], tolerance: float = 5.0) -> pd.DataFrame:
    """A row for each feature: its norm, superposition, dimensionality and part.

    `shared` is the superposition of features that are represented, NaN of others: of a feature
    without a direction it says nothing.

    Args:
        W: The toy's way in.
        tolerance: Degrees by which angles may be off a shape's.
    """
    parts = part_names(recognise(W, tolerance), W.shape[1])
    absent = torch.tensor([part == ABSENT for part in parts])
    shared = superposition(W)
    return pd.DataFrame(
        {
            "feature": range(W.shape[1]),
            "norm": feature_norms(W).tolist(),
            "superposition": shared.tolist(),
            "shared": shared.masked_fill(absent.to(shared.device), torch.nan).tolist(),
            "dimensionality": feature_dimensionality(W).tolist(),
            "part": parts,
        }
    )


def directions(W: Float[Tensor, "d_hidden feature"], tolerance: float = 5.0) -> pd.DataFrame:
    """A row for each feature, part by part: where it points, in up to three dimensions.

    Toys of more dimensions are seen along their three principal directions; `kept` tells which
    share of W's squares that is.

    Args:
        W: The toy's way in.
        tolerance: Degrees by which angles may be off a shape's.
    """
    seen, kept = in_space(W)
    named = {AXES[k]: row for k, row in enumerate(seen.tolist())}
    if len(named) == 1:
        named["y"] = [0.0] * W.shape[1]
    table = pd.DataFrame(
        {"feature": range(W.shape[1]), **named}
        | {"part": part_names(recognise(W, tolerance), W.shape[1]), "kept": kept}
    )
    # So that parts have the same colours in toys that have the same parts.
    return table.sort_values(["part", "feature"], ignore_index=True)


def by_density(
    W: Float[Tensor, "density d_hidden feature"], densities: Sequence[float]
) -> pd.DataFrame:
    """A row for each density and feature: its norm and dimensionality.

    Args:
        W: The ways in of toys.
        densities: Of each.
    """
    count, n_features = len(densities), W.shape[-1]
    place = [k for k in range(count) for _ in range(n_features)]
    return pd.DataFrame(
        {
            "place": place,
            "density": [densities[k] for k in place],
            "density_text": [f"{densities[k]:g}" for k in place],
            "feature": list(range(n_features)) * count,
            "norm": feature_norms(W).flatten().tolist(),
            "dimensionality": feature_dimensionality(W).flatten().tolist(),
        }
    )


def shapes(
    W: Float[Tensor, "density d_hidden feature"],
    densities: Sequence[float],
    tolerance: float = 5.0,
) -> pd.DataFrame:
    """A row for each density: what its toy has become.

    Args:
        W: The ways in of toys.
        densities: Of each.
        tolerance: Degrees by which angles may be off a shape's.
    """
    found = recognise_each(W, tolerance)
    return pd.DataFrame(
        {
            "density": list(densities),
            "geometry": [one.summary for one in found],
            "solid": [one.solid or "" for one in found],
            "represented": [W.shape[-1] - len(one.absent) for one in found],
            "dimensions_per_feature": dimensions_per_feature(W).tolist(),
        }
    )


def directions_by_density(
    W: Float[Tensor, "density d_hidden feature"], densities: Sequence[float]
) -> pd.DataFrame:
    """A row for each density and feature of toys of one or two dimensions: where it points.

    Args:
        W: The ways in of toys.
        densities: Of each.

    Raises:
        InputError: If there are more dimensions.
    """
    require(W.shape[-2] <= 2, f"toys must have one or two dimensions. Received {W.shape[-2]}")
    x = W[:, 0].flatten().tolist()
    return pd.DataFrame(
        {
            "toy": [f"1-S = {p:g}" for p in densities for _ in range(W.shape[-1])],
            "feature": [str(i) for i in range(W.shape[-1])] * len(densities),
            "x": x,
            "y": W[:, 1].flatten().tolist() if W.shape[-2] == 2 else [0.0] * len(x),
        }
    )


def directions_by_density_chart(reach: float) -> Chart:
    """The table of `directions_by_density`, a panel for each density; `reach`: of the axes."""
    return Chart(
        kind="points",
        vectors=True,
        table="directions",
        title="Columns of W at each density",
        alt="Each feature is a line from the centre, of the length of its norm. With a ReLU at the "
        "output more of them share the dimensions as they get sparser (Elhage et al. 2022).",
        x="x",
        y="y",
        color="feature",
        facet="toy",
        x_label="first hidden dimension",
        y_label="second",
        limits=(-reach, reach),
    )


def losses_by_density(
    values: Float[Tensor, "step density"], steps: Sequence[int], densities: Sequence[float]
) -> pd.DataFrame:
    """A row for each step and density: the loss there."""
    return pd.DataFrame(
        {
            "step": [step for step in steps for _ in densities],
            "density": list(densities) * len(steps),
            "condition": [f"1-S = {p:g}" for p in densities] * len(steps),
            "loss": values.flatten().tolist(),
        }
    )


def over_time(W: Float[Tensor, "step d_hidden feature"], steps: Sequence[int]) -> pd.DataFrame:
    """A row for each snapshot and feature: its dimensionality.

    Args:
        W: The way in at each snapshot.
        steps: Updates before each.
    """
    n_features = W.shape[-1]
    return pd.DataFrame(
        {
            "step": [step for step in steps for _ in range(n_features)],
            "feature": [str(i) for i in range(n_features)] * len(steps),
            "dimensionality": feature_dimensionality(W).flatten().tolist(),
        }
    )


def losses(values: Sequence[float], steps: Sequence[int]) -> pd.DataFrame:
    """A row for each snapshot: its loss."""
    return pd.DataFrame({"step": list(steps), "loss": list(values)})


def in_space(
    W: Float[Tensor, "d_hidden feature"],
) -> tuple[Float[Tensor, "axis feature"], float]:
    """W as it is, or along its three principal directions; and the share of its squares kept."""
    if W.shape[0] <= len(AXES):
        return W, 1.0
    left, sizes, _ = torch.linalg.svd(W)  # whole: two features have three directions all the same
    total = float(sizes.square().sum())
    kept = float(sizes[: len(AXES)].square().sum()) / total if total else 1.0
    return left[:, : len(AXES)].mT @ W, kept


def part_names(geometry: Geometry, n_features: int) -> list[str]:
    """The part that each feature belongs to: `digon 2` is the second of several digons."""
    names = [ABSENT] * n_features
    times = {name: sum(str(part) == name for part in geometry.parts) for name in geometry.counts}
    seen: dict[str, int] = {}
    for part in sorted(geometry.parts, key=lambda one: one.features):
        name = str(part)
        seen[name] = seen.get(name, 0) + 1
        for feature in part.features:
            names[feature] = f"{name} {seen[name]}" if times[name] > 1 else name
    return names


def edges(W: Float[Tensor, "d_hidden feature"], geometry: Geometry) -> list[tuple[int, int]]:
    """Pairs of features between which the recognised polytope has an edge.

    Up to three dimensions that is the polytope of all features, where every part has a name; in
    more, where it cannot be seen whole, that of each named part of up to three dimensions. Shapes
    are recognised by their angles, so edges are those of the directions, whatever their lengths.
    """
    if W.shape[0] <= len(AXES):
        named = all(part.is_named for part in geometry.parts)
        groups = [sorted(i for part in geometry.parts for i in part.features)] if named else []
    else:
        named_parts = [part for part in geometry.parts if part.is_named]
        groups = [list(part.features) for part in named_parts if part.rank <= len(AXES)]
    found = []
    for features in groups:
        if len(features) <= MOST_CORNERS:
            some = W[:, features]
            seen, _ = in_space(some / feature_norms(some))
            found += [(features[i], features[j]) for i, j in hull_edges(seen)]
    return sorted(found)


def weights_chart(reach: float, about: str) -> Chart:
    """The table of `weights` as a heatmap.

    Args:
        reach: The end of the scale, shared by toys that are seen one after another.
        about: Which toy it is.
    """
    return Chart(
        kind="heatmap",
        table="weights",
        title="Weights W",
        alt=f"Weights of {about}: features across, hidden dimensions down.",
        x="feature",
        y="hidden",
        value="weight",
        y_label="hidden dimension",
        value_label="W",
        signed=True,
        limits=(-reach, reach),
    )


def products_chart(reach: float, tied: bool, about: str, hidden: str = "linear") -> Chart:
    """The table of `products` as a heatmap; arguments as for `weights_chart`."""
    name = "WᵀW" if tied else "W_out W"
    if hidden == "relu":
        name = "Wᵀ ReLU(W)" if tied else "W_out ReLU(W)"
    return Chart(
        kind="heatmap",
        table="products",
        title=f"{name}: what each feature writes onto each output",
        alt=f"{name} of {about}, before the bias and the output's activation: each feature alone, "
        "across, and what it writes onto each output, down. The diagonal is what comes back of the "
        "feature itself; all else is interference.",
        x="feature",
        y="output",
        value="product",
        value_label=name,
        signed=True,
        limits=(-reach, reach),
    )


def measure_chart(measure: str, most: float, about: str, told: str) -> Chart:
    """One column of the table of `measures` as bars.

    Args:
        measure: `norm`, `shared` or `dimensionality`.
        most: The end of the scale, shared by toys that are seen one after another.
        about: Which toy it is.
        told: What the bars say, a sentence.
    """
    titles = {
        "norm": ("Norm ‖W_i‖", "‖W_i‖"),
        "shared": ("Superposition Σ_{j≠i} (Ŵ_i·W_j)²", "superposition"),
        "dimensionality": ("Dimensionality D_i", "D_i"),
    }
    title, label = titles[measure]
    scale: dict[str, Any] = {"limits": (0.0, most)}
    if measure == "dimensionality":
        scale = {"probability": True}
    return Chart(
        kind="bars",
        table="measures",
        title=title,
        alt=f"{title} of each feature of {about}. {told}",
        x="feature",
        value=measure,
        value_label=label,
        **scale,
    )


def directions_chart(reach: float, about: str, told: str) -> Chart:
    """The table of `directions` of a toy of one or two dimensions, as lines from the centre.

    Args:
        reach: How far the axes go, shared by toys that are seen one after another.
        about: Which toy it is.
        told: The shape, a sentence.
    """
    return Chart(
        kind="points",
        vectors=True,
        table="directions",
        title="Columns of W",
        alt=f"Each feature of {about} as a line from the centre, of the length of its norm. {told}",
        x="x",
        y="y",
        color="part",
        x_label="first hidden dimension",
        y_label="second",
        limits=(-reach, reach),
    )


def _cells(values: Tensor, row: str, column: str, name: str) -> pd.DataFrame:
    at, across = torch.meshgrid(*(torch.arange(n) for n in values.shape), indexing="ij")
    return pd.DataFrame(
        {
            row: at.flatten().tolist(),
            column: across.flatten().tolist(),
            name: values.flatten().tolist(),
        }
    )
