"""Tables and figures of what toys have memorised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from interp.charts.spec import Chart
from interp.toys.geometry import recognise
from interp.toys.measures import example_dimensionality, feature_dimensionality
from interp.toys.memorisation import effective_number, polygon_gaps, typical_dimensionality

ENDLESS = "endless"
NAMED = 12  # so many directions at most are compared with shapes
REPRESENTED = 0.4  # of the largest norm
TOLERANCE = 10.0  # degrees
DRAWN = 1000  # vectors of a picture at most


@dataclass(frozen=True)
class Memorised:
    """One model after training.

    Attributes:
        size: Of its training set; None of a model that never saw an example twice.
        seed: Of its weights and data.
        W: Weights `[d_hidden, feature]` in fp64.
        hidden: Of its training examples, `[example, d_hidden]` in fp64.
        train_loss, test_loss: Mean over examples of the summed squared error: 1 for outputs of 0.
    """

    size: int | None
    seed: int
    W: Float[Tensor, "d_hidden feature"]
    hidden: Float[Tensor, "example d_hidden"] | None
    train_loss: float
    test_loss: float

    @property
    def label(self) -> str:
        """Its number of examples in words."""
        return ENDLESS if self.size is None else str(self.size)

    @property
    def directions(self) -> dict[str, Float[Tensor, "d_hidden item"]]:
        """What may be represented: `[d_hidden, item]` of examples and of features."""
        found = {} if self.hidden is None else {"examples": self.hidden.T}
        return found | {"features": self.W}


def losses_table(found: Sequence[Memorised], endless: Sequence[Memorised]) -> pd.DataFrame:
    """Mean losses by size, with standard errors over seeds."""
    best = sum(each.test_loss for each in endless) / len(endless)
    rows = []
    for size, of_size in _by_size(found).items():
        for name in ("train", "test"):
            losses = pd.Series([getattr(each, f"{name}_loss") for each in of_size])
            rows.append(
                {
                    "examples": size,
                    "data": name,
                    "loss": losses.mean(),
                    "stderr": losses.sem() if len(losses) > 1 else float("nan"),
                    "seeds": len(losses),
                }
            )
        rows.append(
            {
                "examples": size,
                "data": "test, endless training data",
                "loss": best,
                "stderr": float("nan"),
                "seeds": len(endless),
            }
        )
    return pd.DataFrame(rows)


def dimensionality_table(found: Sequence[Memorised]) -> pd.DataFrame:
    """How few directions share the hidden layer, mean over seeds."""
    rows = []
    for each in found:
        for kind, directions in each.directions.items():
            held = (
                example_dimensionality(directions.T)
                if kind == "examples"
                else feature_dimensionality(directions)
            )
            rows.append(
                {
                    "trained_on": each.label,
                    "examples": each.size or 0,
                    "is_finite": each.size is not None,
                    "kind": kind,
                    "typical": float(typical_dimensionality(held)),
                    "effective_number": float(effective_number(held)),
                    "largest": float(held.max()),
                    "total": float(held.sum()),
                }
            )
    grouped = pd.DataFrame(rows).groupby(
        ["trained_on", "examples", "is_finite", "kind"], sort=False
    )
    return grouped.mean().reset_index().sort_values(["examples", "kind"], ignore_index=True)


def geometry_table(found: Sequence[Memorised]) -> pd.DataFrame:
    """Which shapes the longest directions are arranged in, where they are few."""
    rows = []
    for each in found:
        for kind, directions in each.directions.items():
            norms = directions.norm(dim=0)
            there = norms >= REPRESENTED * norms.max()
            count = int(there.sum())
            named = count <= NAMED
            shape = "more than can be named"
            if named:
                geometry = recognise(directions[:, there], TOLERANCE, REPRESENTED)
                shape = geometry.solid or geometry.summary
            rows.append(
                {
                    "trained_on": each.label,
                    "examples": each.size or 0,
                    "seed": each.seed,
                    "kind": kind,
                    "represented": count,
                    "shape": shape,
                    "largest_gap_error": _largest_gap_error(directions[:, there]),
                }
            )
    return pd.DataFrame(rows)


def _largest_gap_error(directions: Tensor) -> float:
    """Degrees by which neighbours in the plane are nearer or further than in a regular polygon."""
    if directions.shape[0] != 2 or directions.shape[1] < 2:
        return float("nan")
    gaps = polygon_gaps(directions.T)
    return float((gaps - 360 / len(gaps)).abs().max())


def vectors_table(found: Sequence[Memorised], endless: Sequence[Memorised]) -> pd.DataFrame:
    """Hidden vectors in two dimensions of some sizes, the longest `DRAWN` of each kind."""
    rows = []
    for each in _pictured(found, endless):
        for kind, directions in each.directions.items():
            norms = directions.norm(dim=0)
            for index in norms.argsort(descending=True, stable=True)[:DRAWN].tolist():
                x, y = (directions[:, index] / norms.max().clamp(min=1e-30)).tolist()
                rows.append(
                    {"panel": f"{each.label}: {kind}", "kind": kind, "index": index, "x": x, "y": y}
                )
    return pd.DataFrame(rows)


def _pictured(found: Sequence[Memorised], endless: Sequence[Memorised]) -> list[Memorised]:
    """Of each of a few sizes the model with the least loss on its examples."""
    by_size = _by_size(found)
    means = {size: sum(m.test_loss for m in models) for size, models in by_size.items()}
    sizes = sorted(by_size)
    few = min(sizes, key=lambda size: abs(size - 5))
    peak = max(sizes, key=lambda size: means[size])
    chosen = sorted({few, min(sizes, key=lambda size: abs(size - 8)), peak, sizes[-1]})
    best = [min(by_size[size], key=lambda m: m.train_loss) for size in chosen]
    return [*best, min(endless, key=lambda m: m.test_loss)]


def _by_size(found: Sequence[Memorised]) -> dict[int, list[Memorised]]:
    by_size: dict[int, list[Memorised]] = {}
    for each in found:
        assert each.size is not None
        by_size.setdefault(each.size, []).append(each)
    return dict(sorted(by_size.items()))


def figures(tables: dict[str, pd.DataFrame]) -> dict[str, Chart]:
    """Charts of the tables."""
    made = {
        "losses": Chart(
            kind="line",
            table="losses",
            title="Loss by number of examples (bands: standard errors over seeds)",
            alt="The loss on training examples rises from near 0 with their number. The loss on "
            "other examples has a peak between few and many, and then falls to that of endless "
            "data.",
            x="examples",
            y="loss",
            color="data",
            error="stderr",
            log_x=True,
            x_label="training examples T",
            y_label="mean squared error, summed over features",
        ),
        "dimensionality": Chart(
            kind="line",
            table="dimensionality",
            title="Typical dimensionality of examples and of features",
            alt="Examples begin with a large share of a dimension each, which falls as they grow "
            "in number; features begin with almost none and end with more than examples.",
            x="examples",
            y="typical",
            color="kind",
            log_x=True,
            log_y=True,
            x_label="training examples T",
            y_label="sum of D² over sum of D",
            where={"is_finite": True},
        ),
    }
    if "vectors" in tables:
        made["vectors"] = Chart(
            kind="points",
            table="vectors",
            title="Hidden vectors of examples, and directions of features, by training examples",
            alt="Vectors of the plane over the longest of their panel, of many the "
            f"{DRAWN} longest. With few examples, these are "
            "the corners of a polygon; with many, a few features are, and all others lie at the "
            "centre.",
            x="x",
            y="y",
            color="kind",
            facet="panel",
            x_label="first hidden dimension over the longest",
            y_label="second",
            vectors=True,
        )
    return made
