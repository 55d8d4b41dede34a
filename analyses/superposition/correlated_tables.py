"""Tables and figures of toys with features in groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from analyses.superposition.findings import Finding, findings_table
from interp.charts import Chart
from interp.toys.groups import (
    angles_within_groups,
    group_covariance,
    group_interference,
    principal_share,
)
from interp.toys.measures import feature_norms
from interp.toys.theory import principal_components_loss

PAIR, SET = 2, 10  # features of a pair; of a large set, in as many dimensions
PRESENT = 0.5  # a norm from which a feature counts as represented
ENOUGH = 0.9  # a share of toys that the paper's pictures stand for
LOCAL = 4  # times as much interference between sets as within them, from which bases are local
MERGED = 0.95  # of W on sums of pairs


@dataclass(frozen=True)
class Condition:
    """What toys of one kind see.

    Attributes:
        kind: In words.
        density: How likely a pair or set is there; of independent features, each of them.
        of_feature: How likely each feature is there.
        correlation: Of presence within a group, as `SparseFeatures` has it.
        d_hidden: Hidden dimensions.
    """

    kind: str
    density: float
    of_feature: float
    correlation: float
    d_hidden: int


@dataclass(frozen=True)
class Toys:
    """Trained toys, `n_seeds` of the first condition, then as many of the next.

    Attributes:
        conditions: What they saw.
        n_seeds: Toys of each.
        group_size: Features of a group.
        W: Their directions.
        loss: Of fresh data, the mean over features.
        seeds: Of each toy.
    """

    conditions: list[Condition]
    n_seeds: int
    group_size: int
    W: Float[Tensor, "instance d_hidden feature"]
    loss: Float[Tensor, "instance"]
    seeds: Int[Tensor, "instance"]

    def best(self, number: int) -> int:
        """The toy of a condition with the least loss."""
        return self.n_seeds * number + int(self.of(self.loss, number).argmin())

    def of(
        self, values: Shaped[Tensor, "instance *axes"], number: int
    ) -> Shaped[Tensor, "seed *axes"]:
        """The part of a tensor that belongs to a condition."""
        return values[self.n_seeds * number : self.n_seeds * (number + 1)]


def tables_of(pairs: Toys, merging: Toys, local: Toys, tolerance: float) -> dict[str, pd.DataFrame]:
    """All tables: of two pairs, of three, and of two large sets."""
    tables = {
        "pairs": _pairs(pairs, tolerance),
        "pair-toys": _pair_toys(pairs),
        "merging": _merging(merging),
        "local-bases": _local_bases(local),
        "gram": _gram(local),
        "columns": pd.DataFrame([*_columns(pairs, "two pairs"), *_columns(merging, "three pairs")]),
    }
    return {"findings": _findings(tables), **tables}


def _pairs(toys: Toys, tolerance: float) -> pd.DataFrame:
    angles = angles_within_groups(toys.W, PAIR).squeeze(-1)  # [instance pair]
    present = (feature_norms(toys.W) >= PRESENT).all(-1)
    rows = []
    for number, condition in enumerate(toys.conditions):
        found, there = toys.of(angles, number), toys.of(present, number)

        def share(degrees: float, found: Tensor = found, there: Tensor = there) -> float:
            near = ((found - degrees).abs() <= tolerance).all(-1)
            return float((near & there).double().mean())

        rows.append(
            {
                "kind": condition.kind,
                "density": condition.density,
                "density_of_feature": condition.of_feature,
                "toys": toys.n_seeds,
                "all_represented": float(there.double().mean()),
                "orthogonal": share(90.0),
                "antipodal": share(180.0),
                "side_by_side": share(0.0),
                "median_degrees": float(found.nanmedian()),
                "least_degrees": _extreme(found, torch.min),
                "most_degrees": _extreme(found, torch.max),
                "best_loss": float(toys.of(toys.loss, number).min()),
                "median_loss": float(toys.of(toys.loss, number).median()),
            }
        )
    return pd.DataFrame(rows)


def _extreme(angles: Tensor, which: Callable[[Tensor], Tensor]) -> float:
    known = angles[angles.isfinite()]
    return float(which(known)) if known.numel() else math.nan


def _pair_toys(toys: Toys) -> pd.DataFrame:
    angles = angles_within_groups(toys.W, PAIR).squeeze(-1)
    norms = feature_norms(toys.W)
    return pd.DataFrame(
        [
            {
                "kind": condition.kind,
                "seed": int(toys.seeds[i]),
                "degrees_of_first_pair": float(angles[i, 0]),
                "degrees_of_second_pair": float(angles[i, 1]),
                "least_norm": float(norms[i].min()),
                "loss": float(toys.loss[i]),
            }
            for number, condition in enumerate(toys.conditions)
            for i in range(toys.n_seeds * number, toys.n_seeds * (number + 1))
        ]
    )


def _merging(toys: Toys) -> pd.DataFrame:
    """Best and mean of three correlated pairs, by density and dimensions."""
    shares = principal_share(toys.W, PAIR)
    angles = angles_within_groups(toys.W, PAIR).squeeze(-1)
    n_features = toys.W.shape[-1]
    rows = []
    for number, condition in enumerate(toys.conditions):
        best = toys.best(number)
        covariance = group_covariance(condition.density, condition.correlation, PAIR, n_features)
        linear = float(principal_components_loss(covariance, condition.d_hidden)) / n_features
        first, second, third = angles[best].sort().values.tolist()
        rows.append(
            {
                "d_hidden": condition.d_hidden,
                "dimensions": f"{condition.d_hidden} dimensions",
                "density": condition.density,
                "merged_share": float(shares[best]),
                "mean_merged_share": float(toys.of(shares, number).mean()),
                "least_degrees": first,
                "middle_degrees": second,
                "most_degrees": third,
                "represented": int((feature_norms(toys.W[best]) >= PRESENT).sum()),
                "loss": float(toys.loss[best]),
                "principal_components_loss": linear,
                "loss_ratio": float(toys.loss[best]) / linear,
            }
        )
    return pd.DataFrame(rows)


def _local_bases(toys: Toys) -> pd.DataFrame:
    """Interference and angles within the sets and between them, of each toy."""
    within, between = group_interference(toys.W, toys.group_size)
    unit = toys.W / feature_norms(toys.W).unsqueeze(-2)
    cosines = (unit.mT @ unit).abs()
    n = toys.W.shape[-1]
    group = torch.arange(n) // toys.group_size
    same = (group[:, None] == group) & ~torch.eye(n, dtype=torch.bool)
    other = group[:, None] != group
    return pd.DataFrame(
        [
            {
                "seed": int(toys.seeds[i]),
                "represented": int((feature_norms(toys.W[i]) >= PRESENT).sum()),
                "interference_within": float(within[i].mean()),
                "interference_between": float(between[i].mean()),
                "mean_cosine_within": float(cosines[i][same].mean()),
                "mean_cosine_between": float(cosines[i][other].mean()),
                "largest_cosine_within": float(cosines[i][same].max()),
                "largest_cosine_between": float(cosines[i][other].max()),
                "loss": float(toys.loss[i]),
            }
            for i in range(len(toys.W))
        ]
    )


def _gram(toys: Toys) -> pd.DataFrame:
    """WᵀW of the best toy, with the second set ordered so that partners lie on a diagonal."""
    W = toys.W[toys.best(0)]
    gram = W.mT @ W
    half = toys.group_size
    # Order within a set means nothing: the second one follows its strongest partner in the first.
    left, order = gram[:half, half:].abs().clone(), [0] * half
    for _ in range(half):
        row, column = divmod(int(left.argmax()), half)
        order[row] = column
        left[row], left[:, column] = -1.0, -1.0
    places = [*range(half), *(half + column for column in order)]
    return pd.DataFrame(
        [
            {"row": i, "column": j, "product": float(gram[places[i], places[j]])}
            for i in range(len(places))
            for j in range(len(places))
        ]
    )


def _columns(toys: Toys, part: str) -> list[dict[str, object]]:
    """Each condition's best toy in two dimensions, its first feature turned to the right."""
    rows: list[dict[str, object]] = []
    for number, condition in enumerate(toys.conditions):
        if condition.d_hidden != 2:
            continue
        W = toys.W[toys.best(number)][:2]
        angle = torch.atan2(W[1], W[0])
        angle = angle - angle[0]
        angle = angle * (1.0 if float(angle[1].sin()) >= 0 else -1.0)
        norms = feature_norms(W)
        x, y = norms * angle.cos(), norms * angle.sin()
        panel = condition.kind if part == "two pairs" else f"density {condition.density:g}"
        for i in range(W.shape[-1]):
            name = f"pair {i // PAIR + 1}, {'ab'[i % PAIR]}"
            about = {"part": part, "condition": panel, "feature": name}
            rows.append({**about, "x": float(x[i]), "y": float(y[i])})
    return rows


def _findings(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """What the paper's pictures show, beside counts."""
    pairs = tables["pairs"].set_index("kind")
    orthogonal, antipodal = pairs["orthogonal"], pairs["antipodal"]
    toys, density = int(pairs["toys"].iloc[0]), pairs["density"]
    merging = tables["merging"]
    plane, space = merging[merging["d_hidden"] == 2], merging[merging["d_hidden"] == 3]
    sparse, dense = space.iloc[0], space.iloc[-1]
    crowded = plane.iloc[0]
    local = tables["local-bases"]
    best = local.iloc[int(local["loss"].argmin())]
    near, far = best["interference_within"], best["interference_between"]
    rows = [
        Finding(
            "correlated pairs are orthogonal",
            "orthogonal in all models shown",
            f"{orthogonal['correlated']:.0%} of {toys} toys at density "
            f"{density['correlated']:g} (independent features: {orthogonal['independent']:.0%})",
            orthogonal["correlated"] >= ENOUGH,
        ),
        Finding(
            "anticorrelated pairs are antipodal",
            "opposite in all models shown",
            f"{antipodal['anticorrelated']:.0%} of {toys} toys at density "
            f"{density['anticorrelated']:g} (independent features: "
            f"{antipodal['independent (as dense)']:.0%})",
            antipodal["anticorrelated"] >= ENOUGH,
        ),
        Finding(
            "correlated pairs lie side by side where they cannot all be orthogonal",
            "side by side: three pairs in two dimensions",
            f"{crowded['least_degrees']:.0f}°, {crowded['middle_degrees']:.0f}° and "
            f"{crowded['most_degrees']:.0f}° at density {crowded['density']:g}",
            crowded["most_degrees"] < 90,
        ),
        Finding(
            "sets of correlated features are almost orthogonal bases of their own",
            f"little superposition within a set, much between sets (agrees below 1/{LOCAL})",
            f"interference {near:.2f} within, {far:.2f} between, largest cosine within "
            f"{best['largest_cosine_within']:.2f} (interference of random directions: "
            f"{(SET - 1) / SET:.2f} and {1:.2f})",
            near < far / LOCAL,
        ),
        Finding(
            "sparse correlated pairs have directions of their own",
            "both features represented",
            f"{sparse['merged_share']:.2f} of W on sums (1/2 if orthogonal), least angle "
            f"{sparse['least_degrees']:.0f}°, at density {sparse['density']:g}",
            sparse["least_degrees"] > 45,
        ),
        Finding(
            "dense correlated pairs merge into their principal component",
            "one direction for both: their sum",
            f"{dense['merged_share']:.2f} of W on sums, largest angle "
            f"{dense['most_degrees']:.0f}°, loss {dense['loss_ratio']:.3f} times that of "
            f"principal components, at density {dense['density']:g}",
            dense["merged_share"] >= MERGED,
        ),
    ]
    return findings_table(rows)


def figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Chart]:
    """Charts of the tables."""
    found = {
        f"columns-of-{part.replace(' ', '-')}": Chart(
            kind="points",
            table="columns",
            title=f"Columns of W: {part}, the best toy of each condition",
            alt=alt,
            x="x",
            y="y",
            color="feature",
            facet="condition",
            x_label="hidden dimension 1 (turned)",
            y_label="hidden dimension 2",
            vectors=True,
            where={"part": part},
        )
        for part, alt in (
            (
                "two pairs",
                "The features of a correlated pair stand at right angles, those of an "
                "anticorrelated pair point in opposite directions.",
            ),
            (
                "three pairs",
                "Sparse pairs lie side by side with an angle between their features; in dense "
                "toys both features of a pair have one direction.",
            ),
        )
    }
    found["merging"] = Chart(
        kind="line",
        table="merging",
        title="Correlated pairs merge as they grow dense",
        alt="The share of W on sums of pairs rises with density from one half, orthogonal pairs, "
        "or, in two dimensions, more, to one: there both features of each pair have one "
        "direction.",
        x="density",
        y="merged_share",
        color="dimensions",
        x_label="density of pairs 1 - S",
        y_label="share of W on sums of pairs",
        log_x=True,
    )
    found["loss-of-merging"] = Chart(
        kind="line",
        table="merging",
        title="Loss over that of the principal components",
        alt="The toys' loss is a small part of that of principal components where pairs are "
        "sparse, and the same where they are dense.",
        x="density",
        y="loss_ratio",
        color="dimensions",
        x_label="density of pairs 1 - S",
        y_label="loss / loss of principal components",
        log_x=True,
    )
    found["gram"] = Chart(
        kind="heatmap",
        table="gram",
        title="WᵀW of two sets of correlated features",
        alt="Within each set, the blocks on the diagonal, products are almost 0 but for features "
        "with themselves; between the sets they are not.",
        x="column",
        y="row",
        value="product",
        x_label="feature",
        y_label="feature",
        value_label="W_i · W_j",
        signed=True,
    )
    return found
