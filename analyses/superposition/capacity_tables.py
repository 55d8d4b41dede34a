"""Tables and figures of how capacity is allotted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.charts.spec import Chart
from interp.toys.allocation import Allocation, marginal_loss
from interp.toys.geometry import recognise_each
from interp.toys.measures import capacity
from interp.toys.quadratic import kurtosis_of

IGNORED, WHOLE = 0.05, 0.95
"""Capacities below and above which a feature counts as ignored and as monosemantic."""
STATES = ("ignored", "polysemantic", "monosemantic")
NORMAL = 3.0
_REPRESENTED = 0.15  # of the largest norm: a part in a block, even if of low capacity


@dataclass(frozen=True)
class Allotted:
    """Toys of one kind after training, at all densities and of all seeds.

    Attributes:
        model: Its kind.
        density, seed: Of each instance; those of a density follow one another.
        importance: Of each feature.
        W: Weights in fp64.
        loss: Sum over features, of each instance: the quadratic toy's exact one, the ReLU toy's on
            data that it was not trained on.
        best: The best allocation, where there is a formula for it.
    """

    model: str
    density: Float[Tensor, "instance"]
    seed: Int[Tensor, "instance"]
    importance: Float[Tensor, "feature"]
    W: Float[Tensor, "instance d_hidden feature"]
    loss: Float[Tensor, "instance"]
    best: Allocation | None

    @cached_property
    def capacity(self) -> Float[Tensor, "instance feature"]:
        """C_i `[instance, feature]`."""
        return capacity(self.W)

    @cached_property
    def chosen(self) -> list[int]:
        """The instance with the least loss of each density, densest first."""
        found = []
        for density in self.density.unique().flip(0):
            (here,) = (self.density == density).nonzero(as_tuple=True)
            found.append(int(here[self.loss[here].argmin()]))
        return found


@dataclass(frozen=True)
class Phase:
    """Two features in one dimension: the second's capacity, trained and optimal.

    Attributes:
        density, relative_importance: The axes.
        capacity, optimal: The second feature's, `[density, relative_importance]`.
        loss, least_loss: Of the model, and of the optimum.
    """

    density: Float[Tensor, "density"]
    relative_importance: Float[Tensor, "relative_importance"]
    capacity: Float[Tensor, "density relative_importance"]
    optimal: Float[Tensor, "density relative_importance"]
    loss: Float[Tensor, "density relative_importance"]
    least_loss: Float[Tensor, "density relative_importance"]


def state_of(capacity: float) -> str:
    """Which of `STATES` a feature with this capacity is in."""
    return STATES[(capacity >= IGNORED) + (capacity > WHOLE)]


def capacities_table(allotted: Sequence[Allotted]) -> pd.DataFrame:
    """Each feature's capacity in the best model of each density, and the optimal one."""
    rows = []
    for each in allotted:
        for i in each.chosen:
            for feature, importance in enumerate(each.importance.tolist()):
                found = float(each.capacity[i, feature])
                row = {
                    "model": each.model,
                    "density": float(each.density[i]),
                    "feature": feature,
                    "importance": importance,
                }
                rows.append(
                    row | {"source": "trained", "capacity": found, "state": state_of(found)}
                )
                if each.best is not None:
                    best = float(each.best.capacity[i, feature])
                    rows.append(
                        row | {"source": "optimal", "capacity": best, "state": state_of(best)}
                    )
    table = pd.DataFrame(rows)
    table.insert(2, "panel", table["model"] + ", " + table["source"])
    return table


def totals_table(allotted: Sequence[Allotted]) -> pd.DataFrame:
    """What each model has used, and what it has lost against the optimum."""
    rows = []
    for each in allotted:
        chosen = set(each.chosen)
        for i, found in enumerate(each.capacity):
            states = [state_of(float(one)) for one in found]
            least = float("nan") if each.best is None else float(each.best.loss[i])
            rows.append(
                {
                    "model": each.model,
                    "density": float(each.density[i]),
                    "kurtosis": float(kurtosis_of(each.density[i])),
                    "seed": int(each.seed[i]),
                    "is_best": i in chosen,
                    "loss": float(each.loss[i]),
                    "least_loss": least,
                    "excess": float(each.loss[i]) / least - 1,
                    "total_capacity": float(found.sum()),
                    "d_hidden": each.W.shape[1],
                    **{state: states.count(state) for state in STATES},
                }
            )
    return pd.DataFrame(rows)


def marginals_table(quadratic: Allotted) -> pd.DataFrame:
    """What a little more capacity would be worth to each feature of the best quadratic models."""
    best = quadratic.best
    assert best is not None
    v = quadratic.importance.sqrt()
    rows = []
    for i in quadratic.chosen:
        kurtosis = kurtosis_of(quadratic.density[i])
        # Rounding may leave a capacity just above 1.
        benefit = -marginal_loss(quadratic.capacity[i].clamp(max=1), v, kurtosis)
        for feature, found in enumerate(benefit.tolist()):
            held = float(quadratic.capacity[i, feature])
            rows.append(
                {
                    "density": float(quadratic.density[i]),
                    "kurtosis": float(kurtosis),
                    "feature": feature,
                    "capacity": held,
                    "state": state_of(held),
                    "marginal_benefit": found,
                    "level": 2 * float(best.level[i]) ** 2,
                }
            )
    return pd.DataFrame(rows)


def blocks_table(allotted: Sequence[Allotted]) -> pd.DataFrame:
    """The Gram matrix's connected parts in the best model of each density."""
    rows = []
    for each in allotted:
        found = recognise_each(each.W[each.chosen], represented=_REPRESENTED)
        for i, geometry in zip(each.chosen, found, strict=True):
            for block, part in enumerate(geometry.parts):
                own = float(capacity(each.W[i][:, list(part.features)]).sum())
                rows.append(
                    {
                        "model": each.model,
                        "density": float(each.density[i]),
                        "block": block,
                        "n_features": len(part.features),
                        "dimensions": part.rank,
                        "capacity": own,
                        "efficiency": own / part.rank,
                        "shape": part.name,
                        "features": " ".join(map(str, part.features)),
                    }
                )
    return pd.DataFrame(rows)


def phase_table(phase: Phase) -> pd.DataFrame:
    """Capacities of the second of two features, and where they are compared."""
    clear = _clear(phase)
    rows = []
    for i, density in enumerate(phase.density.tolist()):
        for j, importance in enumerate(phase.relative_importance.tolist()):
            for source in ("trained", "optimal"):
                found = float((phase.capacity if source == "trained" else phase.optimal)[i, j])
                rows.append(
                    {
                        "density": round(density, 4),
                        "kurtosis": float(kurtosis_of(density)),
                        "relative_importance": round(importance, 4),
                        "source": source,
                        "capacity": found,
                        "state": state_of(found),
                        "excess": float(phase.loss[i, j] / phase.least_loss[i, j]) - 1,
                        "is_clear": bool(clear[i, j]),
                    }
                )
    return pd.DataFrame(rows)


def _clear(phase: Phase) -> Tensor:
    """Where the optimum's state is that of all points beside it, and is the only optimum."""
    state = (phase.optimal >= IGNORED).long() + (phase.optimal > WHOLE).long()
    around = torch.nn.functional.pad(state[None, None].double(), (1, 1, 1, 1), mode="replicate")
    windows = around[0, 0].unfold(0, 3, 1).unfold(1, 3, 1)
    same = (windows == windows[:, :, 1:2, 1:2]).flatten(2).all(-1)
    tied = (phase.relative_importance - 1).abs() < 1e-6
    spread = kurtosis_of(phase.density) > NORMAL
    return same & (spread[:, None] | ~tied)


def figures(tables: dict[str, pd.DataFrame]) -> dict[str, Chart]:
    """Charts of the tables."""
    return {
        "capacities": Chart(
            kind="heatmap",
            table="capacities",
            title="Capacity of each feature by density",
            alt="Cells give a feature's capacity between 0 and 1. Where features are dense the "
            "first few, the most important ones, have a dimension each; where they are sparse "
            "capacity is spread over more.",
            x="feature",
            y="density",
            value="capacity",
            facet="panel",
            x_label="feature, most important first",
            probability=True,
        ),
        "phase": Chart(
            kind="heatmap",
            table="phase",
            title="Two features in one dimension: the second one's capacity",
            alt="Where features are dense the second has all of the dimension if it is the more "
            "important one, and else nothing. Where they are sparse it has a part over a wide "
            "range of importances.",
            x="relative_importance",
            y="density",
            value="capacity",
            facet="source",
            x_label="importance over the first one's",
            probability=True,
        ),
        "marginal-benefit": Chart(
            kind="line",
            table="marginals",
            title="What more capacity would be worth to each feature",
            alt="Lines fall with importance, run flat over the features that share dimensions, and "
            "fall again over those that are ignored.",
            x="feature",
            y="marginal_benefit",
            color="density",
            x_label="feature, most important first",
            y_label="marginal benefit -dL/dC",
            log_y=True,
        ),
        "polysemantic": Chart(
            kind="line",
            table="totals",
            title="Features that share dimensions",
            alt="The number of polysemantic features in the best model of each density, of both "
            "toys.",
            x="kurtosis",
            y="polysemantic",
            color="model",
            log_x=True,
            y_label="polysemantic features",
            where={"is_best": True},
        ),
    }
