"""The toys of a result, read back from its tables: their weights by density and step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from analyses.results.result import AnalysisResult
from analyses.superposition.dynamics_tables import TOLERANCE
from analyses.superposition.phase_tables import THEORY, TRAINED
from interp.errors import InputError, require


@dataclass(frozen=True)
class Family:
    """Toys that differ in the density of their features, each at some steps of its training.

    Attributes:
        name: What they have in common.
        densities: 1 - S of each, falling.
        steps: Updates before each snapshot, rising; one where only the end was kept.
        W: The way in.
        W_out: The way back; None where it is Wᵀ.
        b: Of the output; None where it was not kept.
        loss: Of each at each step; None where it was not kept.
        losses_are: What kind of loss that is.
        importance: Of each feature.
        tolerance: Degrees by which angles may be off a shape's.
        hidden: Activation of the hidden layer, `linear` or `relu`.
    """

    name: str
    densities: tuple[float, ...]
    steps: tuple[int, ...]
    W: Float[Tensor, "density step d_hidden feature"]
    W_out: Float[Tensor, "density step feature d_hidden"] | None
    b: Float[Tensor, "density step feature"] | None
    loss: Float[Tensor, "density step"] | None
    losses_are: str
    importance: Float[Tensor, "feature"]
    tolerance: float
    hidden: str = "linear"


def has_toys(name: str) -> bool:
    """Whether `families_of` reads results of this analysis."""
    return name in _READERS


def families_of(result: AnalysisResult) -> list[Family]:
    """The toys that a result shows: the best of each density, or the one it follows.

    Raises:
        InputError: If it is of an analysis that keeps no weights, or its tables lack them.
    """
    if result.name not in _READERS:
        raise InputError(
            f"weights of toys are kept by {', '.join(_READERS)}, not by {result.name!r}."
        )
    return _READERS[result.name](result)


def phase_toy(
    result: AnalysisResult, size: str, row: int, column: int, trained: bool = True
) -> Float[Tensor, "d_hidden feature"]:
    """W of one point of a phase diagram: of the best toy, or of the theory's best solution.

    Args:
        result: Of `superposition-phase`.
        size: As its tables name it, such as `n=2 m=1`.
        row: The density's place.
        column: The relative importance's place.
        trained: Whether the toy is meant, not the theory.

    Raises:
        InputError: If the result has no weights, or none there.
    """
    table = _table(result, "weights")
    chosen = (
        (table["size"] == size)
        & (table["row"] == row)
        & (table["column"] == column)
        & (table["source"] == (TRAINED if trained else THEORY))
    )
    require(bool(chosen.any()), f"there is no toy there. Received {size}, {row}, {column}")
    return _matrix(table[chosen], ["hidden", "feature"], "weight")


def _of_toys(result: AnalysisResult) -> list[Family]:
    parameters = result.provenance.parameters
    weights, features = _table(result, "weights"), _table(result, "features")
    densities = sorted(weights["density"].unique().tolist(), reverse=True)
    place = ["density", "step", "hidden", "feature"]
    W = _matrix(weights, place, "weight").flip(0)
    back = _matrix(weights, place, "weight_out").flip(0)
    return [
        Family(
            name=f"n = {W.shape[-1]}, m = {W.shape[-2]}",
            densities=tuple(densities),
            steps=tuple(sorted(weights["step"].unique().tolist())),
            W=W,
            W_out=None if parameters.get("tied", True) else back.mT,
            b=_matrix(features, ["density", "step", "feature"], "bias").flip(0),
            loss=_matrix(_table(result, "losses"), ["density", "step"], "loss").flip(0),
            losses_are="on held-out examples, a mean over features",
            importance=_matrix(
                features.drop_duplicates("feature"), ["feature"], "importance"
            ),
            tolerance=_number(result, "tolerance"),
            hidden=str(parameters.get("hidden", "linear")),
        )
    ]  # fmt: skip


def _of_intro(result: AnalysisResult) -> list[Family]:
    features, conditions = _table(result, "features"), _table(result, "by-condition")
    steps = (int(_number(result, "steps")),)
    families = []
    for ratio in sorted(features["ratio"].unique().tolist()):
        rows = features[features["ratio"] == ratio]
        of_ratio = conditions[conditions["ratio"] == ratio]
        norm = _matrix(rows, ["density", "feature"], "norm").flip(0)
        angle = _matrix(rows, ["density", "feature"], "angle_degrees").flip(0).deg2rad()
        families.append(
            Family(
                name="all features alike" if ratio == 1 else f"importance {ratio:g}^i",
                densities=tuple(sorted(rows["density"].unique().tolist(), reverse=True)),
                steps=steps,
                W=torch.stack([norm * angle.cos(), norm * angle.sin()], -2)[:, None],
                W_out=None,
                b=_matrix(rows, ["density", "feature"], "bias").flip(0)[:, None],
                loss=_matrix(of_ratio, ["density"], "loss").flip(0)[:, None],
                losses_are="expected, a mean over features",
                importance=_matrix(rows.drop_duplicates("feature"), ["feature"], "importance"),
                tolerance=_number(result, "tolerance"),
            )
        )
    return families


def _of_dynamics(result: AnalysisResult) -> list[Family]:
    weights = _table(result, "weights")
    density = [_number(result, name) for name in ("density", "set_density")]
    families = []
    for name, p in zip(weights["toys"].drop_duplicates().tolist(), density, strict=True):
        rows = weights[weights["toys"] == name]
        W = _matrix(rows, ["step", "hidden", "feature"], "weight")
        families.append(
            Family(
                name=f"{name} (seed {rows['seed'].iloc[0]})",
                densities=(p,),
                steps=tuple(sorted(rows["step"].unique().tolist())),
                W=W[None],
                W_out=None,
                b=None,
                loss=_matrix(rows.drop_duplicates("step"), ["step"], "loss")[None],
                losses_are="on the same examples throughout",
                importance=torch.ones(W.shape[-1], dtype=torch.float64),
                tolerance=TOLERANCE,
            )
        )
    return families


_READERS: dict[str, Callable[[AnalysisResult], list[Family]]] = {
    "superposition-toys": _of_toys,
    "superposition-intro": _of_intro,
    "superposition-dynamics": _of_dynamics,
}


def _number(result: AnalysisResult, parameter: str) -> float:
    value = result.provenance.parameters.get(parameter)
    require(
        isinstance(value, int | float),
        f"the result must say its {parameter}, a number. Received {value!r}",
    )
    return float(str(value))


def _table(result: AnalysisResult, name: str) -> pd.DataFrame:
    if name not in result.tables:
        raise InputError(
            f"this result of {result.name} has no table {name!r}: it was saved by an older "
            "version. Run the analysis again."
        )
    return result.tables[name]


def _matrix(rows: pd.DataFrame, index: list[str], value: str) -> Tensor:
    """A column as a tensor with an axis for each index column, their values rising."""
    ordered = rows.sort_values(index)
    shape = [rows[name].nunique() for name in index]
    require(
        len(rows) == torch.Size(shape).numel(),
        f"a row is needed for each of {', '.join(index)}. Received {len(rows)} rows for {shape}",
    )
    return torch.tensor(ordered[value].to_numpy(dtype=float)).unflatten(0, shape)
