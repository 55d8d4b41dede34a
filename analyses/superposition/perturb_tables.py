"""One feature that differs from the others, as tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor

from analyses.superposition.findings import Finding, findings_table
from analyses.superposition.perturb_branches import (
    N_FEATURES,
    STARTS,
    VARIED,
    Branches,
    Setting,
    Transition,
)
from interp.charts.spec import Chart
from interp.toys.measures import feature_dimensionality, feature_norms
from interp.toys.planar import angular_gaps, laid_beside

SHOWN = 6  # panels of directions
REGULAR = 360 / N_FEATURES
NAN = float("nan")


@dataclass(frozen=True)
class Trained:
    """Toys that were trained: instances by value, then seed.

    Attributes:
        relative, seed: Of each.
        W: Their weights, in fp64.
        loss: Expected, a mean over features.
        kinds: What solution each is.
    """

    relative: Float[Tensor, "instance"]
    seed: Int[Tensor, "instance"]
    W: Float[Tensor, "instance 2 feature"]
    loss: Float[Tensor, "instance"]
    kinds: Sequence[str]


def tables_of(
    trained: Trained, setting: Setting, branches: Branches, crossing: Transition | None
) -> dict[str, pd.DataFrame]:
    """All tables of the analysis."""
    models = _trained(trained)
    solutions = _solutions(setting, branches)
    by_value = _by_value(models, solutions)
    crossings = _crossing(setting, crossing)
    return {
        "by-value": by_value,
        "findings": _findings(setting, by_value, solutions, crossings),
        "solutions": solutions,
        "crossing": crossings,
        "trained": models,
        "directions": _directions(trained),
    }


def _angle(W: Float[Tensor, "*any 2 feature"]) -> Float[Tensor, "*any"]:
    """Degrees from the varied feature to its neighbours, the mean of both sides."""
    after = angular_gaps(W)[..., VARIED]
    before = angular_gaps(W.flip(-2))[..., VARIED]  # mirrored, the next is the one before
    return (after + before) / 2


def _trained(trained: Trained) -> pd.DataFrame:
    W = trained.W
    return pd.DataFrame(
        {
            "relative": trained.relative.tolist(),
            "seed": trained.seed.tolist(),
            "solution": list(trained.kinds),
            "loss": trained.loss.tolist(),
            "norm": feature_norms(W)[:, VARIED].tolist(),
            "dimensionality": feature_dimensionality(W)[:, VARIED].tolist(),
            "neighbours_degrees": _angle(W).tolist(),
        }
    )


def _solutions(setting: Setting, branches: Branches) -> pd.DataFrame:
    """Where each descent ended; a curve of losses ends where its solution does."""
    norms, angles = feature_norms(branches.W)[..., VARIED], _angle(branches.W)
    rows = [
        {
            "relative": float(setting.relative[i]),
            "start": start,
            "solution": branches.kinds[i][k],
            "persists": branches.kinds[i][k] == start,
            "loss": float(branches.loss[i, k]),
            "loss_of_start": float(branches.loss[i, k]) if branches.kinds[i][k] == start else NAN,
            "slope": float(branches.slope[i, k]),
            "norm": float(norms[i, k]),
            "neighbours_degrees": float(angles[i, k]),
        }
        for i in range(len(setting.relative))
        for k, start in enumerate(STARTS)
    ]
    return pd.DataFrame(rows)


def _by_value(models: pd.DataFrame, solutions: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for relative, toys in models.groupby("relative"):
        best = toys.sort_values("loss", kind="stable").iloc[0]
        ended = solutions[solutions["relative"] == relative].set_index("start")
        losses = ended["loss_of_start"]
        rows.append(
            {
                "relative": relative,
                "toys": len(toys),
                "best_trained": best["solution"],
                "best_loss": best["loss"],
                "norm": best["norm"],
                "neighbours_degrees": best["neighbours_degrees"],
                **{f"{kind}_share": float((toys["solution"] == kind).mean()) for kind in STARTS},
                **{f"{kind}_loss": losses[kind] for kind in STARTS},
                "lower": ended.sort_values("loss", kind="stable")["solution"].iloc[0],
            }
        )
    return pd.DataFrame(rows)


def _crossing(setting: Setting, crossing: Transition | None) -> pd.DataFrame:
    """Both solutions where their losses are equal; no row if they are nowhere."""
    columns = ["relative", setting.vary, "solution", "loss", "slope", "norm"]
    if crossing is None:
        return pd.DataFrame({name: pd.Series(dtype=_dtype(name)) for name in columns})
    value = setting.density if setting.vary == "density" else 1.0
    norms = feature_norms(crossing.branches.W)[0, :, VARIED]
    rows = [
        {
            "relative": crossing.relative,
            setting.vary: crossing.relative * value,
            "solution": crossing.branches.kinds[0][k],
            "loss": float(crossing.branches.loss[0, k]),
            "slope": float(crossing.branches.slope[0, k]),
            "norm": float(norms[k]),
        }
        for k in range(len(STARTS))
    ]
    return pd.DataFrame(rows, columns=columns)


def _dtype(column: str) -> type:
    return str if column == "solution" else float


def _directions(trained: Trained) -> pd.DataFrame:
    """The best toy of some values, turned alike: the tip of each feature's direction."""
    values = trained.relative.unique()
    shown = min(SHOWN, len(values))
    some = {round(i * (len(values) - 1) / (shown - 1)) for i in range(shown)}
    rows = []
    for relative in values[sorted(some)].tolist():
        of_value = (trained.relative == relative).nonzero().flatten()
        best = of_value[trained.loss[of_value].argmin()]
        places = laid_beside(trained.W[best]).T.tolist()
        rows += [
            {
                "relative": f"{relative:g}×",
                "feature": f"other {place}" if place else "varied",
                "x": x,
                "y": y,
            }
            for place, (x, y) in enumerate(places)
        ]
    return pd.DataFrame(rows)


def _findings(
    setting: Setting, by_value: pd.DataFrame, solutions: pd.DataFrame, crossing: pd.DataFrame
) -> pd.DataFrame:
    """What the paper says of its figure, beside this."""
    rings = by_value[by_value["best_trained"] == "pentagon"]
    is_apart = len(rings) > 0 and rings["relative"].min() < 1 < rings["relative"].max()
    first, last = (rings if is_apart else by_value).iloc[[0, -1]].to_dict("records")
    least = by_value.iloc[0]
    both = solutions.groupby("relative")["persists"].all()
    rows = [
        Finding(
            "equal features make a regular pentagon",
            f"a regular pentagon: neighbours {REGULAR:g}° apart",
            f"{one['best_trained']}, {one['neighbours_degrees']:.1f}°",
            one["best_trained"] == "pentagon" and abs(one["neighbours_degrees"] - REGULAR) < 3,
        )
        for _, one in by_value[by_value["relative"] == 1].iterrows()
    ]
    rows += [
        Finding(
            "the others move away from a feature that counts for more, and towards one for less",
            "the pentagon stretches either way",
            f"{first['neighbours_degrees']:.1f}° at {first['relative']:g} times, "
            f"{last['neighbours_degrees']:.1f}° at {last['relative']:g} times"
            if is_apart
            else "no pentagon on both sides of equality",
            is_apart and first["neighbours_degrees"] < REGULAR < last["neighbours_degrees"],
        ),
        Finding(
            "a feature of little enough weight is dropped, and the others form two digons",
            "two digons, the feature at zero",
            f"{least['best_trained']}, norm {least['norm']:.2f} at {least['relative']:g} times",
            least["best_trained"] == "digons",
        ),
        Finding(
            "the change is a first-order one: the losses of both solutions cross",
            "the loss curves cross",
            f"at {crossing['relative'].iloc[0]:.3f} times, {setting.vary} "
            f"{crossing[setting.vary].iloc[0]:.4f}; slopes {crossing['slope'].iloc[0]:.2e} and "
            f"{crossing['slope'].iloc[1]:.2e}"
            if len(crossing)
            else "no crossing within the values",
            len(crossing) > 0,
        ),
        Finding(
            "both solutions are local minima about the crossing",
            "(not said)",
            f"from {both[both].index.min():g} to {both[both].index.max():g} times"
            if both.any()
            else "nowhere",
            bool(both.any()),
        ),
    ]
    return findings_table(rows)


def figures(tables: Mapping[str, pd.DataFrame], vary: str) -> dict[str, Chart]:
    """Charts of the tables."""
    relative = f"{vary} of the varied feature, times that of the others"
    return {
        "losses": Chart(
            kind="line",
            table="solutions",
            title="Losses of both solutions",
            alt="The loss of the pentagon rises slowly with the varied feature's weight, that of "
            "two digons fast; they cross, and each curve ends where its solution is no minimum.",
            x="relative",
            y="loss_of_start",
            color="start",
            x_label=relative,
            y_label="expected loss, mean over features",
            log_x=True,
        ),
        "trained": Chart(
            kind="line",
            table="by-value",
            title="Toys that became a pentagon",
            alt="No toy with a weightless feature becomes a pentagon; with the feature's weight "
            "the share rises. Where it outweighs the others by far, toys leave out another one.",
            x="relative",
            y="pentagon_share",
            x_label=relative,
            y_label="share of toys",
            log_x=True,
            probability=True,
        ),
        "norm": Chart(
            kind="line",
            table="by-value",
            title="Length of the varied feature, in the best toy",
            alt="The length stays near 1 as the feature's weight falls, then drops to 0 at once.",
            x="relative",
            y="norm",
            x_label=relative,
            y_label="‖W₀‖",
            log_x=True,
        ),
        "directions": Chart(
            kind="points",
            table="directions",
            title="Directions of features, the varied one to the right",
            alt="At little weight four features form a cross and the varied one has no length; "
            "from some weight on all five form a pentagon, whose varied feature gains room.",
            x="x",
            y="y",
            color="feature",
            facet="relative",
            x_label="first hidden dimension",
            y_label="second",
            vectors=True,
        ),
    }
