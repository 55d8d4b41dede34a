"""What Scherlis et al. and the exact theory say of capacity, beside what was found."""

from __future__ import annotations

import pandas as pd
import torch

from analyses.superposition.capacity_tables import NORMAL, STATES
from interp.toys.quadratic import kurtosis_of

_CLOSE = 0.05


def findings_table(tables: dict[str, pd.DataFrame], d_hidden: int) -> pd.DataFrame:
    """What the paper says, what theory says, and what was found."""
    capacities, totals = tables["capacities"], tables["totals"]
    marginals, blocks = tables["marginals"], tables["blocks"]
    trained = capacities[capacities["source"] == "trained"]
    best = totals[totals["is_best"]]
    quadratic = best[best["model"] == "quadratic"].sort_values("kurtosis")
    rows = [
        _order(trained[trained["model"] == "quadratic"]),
        _spread(quadratic),
        *_distance(capacities),
        {
            "claim": "training uses all of the capacity that there is",
            "expected": f"total {d_hidden}",
            "here": f"{best['total_capacity'].min():.2f} … {best['total_capacity'].max():.2f}",
            "agrees": bool((best["total_capacity"] > 0.95 * d_hidden).all()),
        },
        _equal(marginals),
        _block_sizes(blocks),
        _efficient(blocks),
        _phases(tables["phase"]),
    ]
    return pd.DataFrame([row for row in rows if row is not None])


def _order(trained: pd.DataFrame) -> dict[str, object]:
    sparsest = trained[trained["density"] == trained["density"].min()].sort_values("feature")
    found = sparsest["capacity"].diff().dropna().max()
    counts = [int((sparsest["state"] == state).sum()) for state in reversed(STATES)]
    return {
        "claim": "more important features have more capacity, up to a whole dimension; the least "
        "important ones have none (quadratic toy, sparsest)",
        "expected": "falls with importance",
        "here": f"{counts[0]} whole, {counts[1]} in part, {counts[2]} ignored; largest rise from "
        f"a feature to the next {max(found, 0.0):.3f}",
        "agrees": bool(found < _CLOSE),
    }


def _spread(quadratic: pd.DataFrame) -> dict[str, object]:
    normal = quadratic[quadratic["kurtosis"] <= NORMAL + 1e-9]["polysemantic"]
    peaked = quadratic[quadratic["kurtosis"] > NORMAL + 1e-9]["polysemantic"]
    return {
        "claim": "polysemanticity grows with kurtosis, and begins beyond 3 (quadratic toy)",
        "expected": "0 features up to kurtosis 3, then more and more",
        "here": f"up to 3: {', '.join(map(str, normal)) or 'none tried'}; beyond: "
        f"{', '.join(map(str, peaked)) or 'none tried'}",
        "agrees": bool(
            (normal == 0).all() and (peaked > 0).all() and (peaked.diff()[1:] >= 0).all()
        ),
    }


def _distance(capacities: pd.DataFrame) -> list[dict[str, object]]:
    ours = capacities[capacities["model"] == "quadratic"]
    wide = ours.pivot(index=["density", "feature"], columns="source", values="capacity")
    difference = (wide["trained"] - wide["optimal"]).abs().reset_index(name="apart")
    dense = kurtosis_of(torch.tensor(difference["density"])).numpy() <= NORMAL + 1e-9
    rows = []
    for where, apart in (
        ("kurtosis above 3", difference.loc[~dense, "apart"]),
        ("kurtosis up to 3, where there are local minima", difference.loc[dense, "apart"]),
    ):
        if len(apart):
            rows.append(
                {
                    "claim": f"training finds the optimal capacities (quadratic toy, {where})",
                    "expected": "difference 0",
                    "here": f"mean {apart.mean():.3f}, largest {apart.max():.3f}",
                    "agrees": bool(apart.max() < _CLOSE),
                }
            )
    return rows


def _equal(marginals: pd.DataFrame) -> dict[str, object] | None:
    shared = marginals[(marginals["state"] == "polysemantic") & (marginals["kurtosis"] > NORMAL)]
    if shared.empty:
        return None
    ratio = (shared["marginal_benefit"] / shared["level"] - 1).abs()
    return {
        "claim": "polysemantic features have equal marginal losses (quadratic toy)",
        "expected": "ratio to 2 λ² of 1",
        "here": f"off by {ratio.median():.3f} (median), {ratio.max():.3f} (largest) of "
        f"{len(ratio)} features",
        "agrees": bool(ratio.median() < _CLOSE),
    }


def _block_sizes(blocks: pd.DataFrame) -> dict[str, object]:
    shared = blocks[blocks["n_features"] > 1]
    largest = shared.groupby("model")["n_features"].max().reindex(["quadratic", "relu"])
    sizes = largest.fillna(1).astype(int)
    return {
        "claim": "block sizes depend on the architecture",
        "expected": "one large block for the quadratic toy, small ones for the ReLU toy",
        "here": f"features in the largest block: {sizes['quadratic']} (quadratic), "
        f"{sizes['relu']} (ReLU)",
        "agrees": bool(sizes["quadratic"] > sizes["relu"]),
    }


def _efficient(blocks: pd.DataFrame) -> dict[str, object]:
    ours = blocks[blocks["model"] == "quadratic"]
    return {
        "claim": "each block is a tight frame, whose capacities sum to its dimensions "
        "(quadratic toy)",
        "expected": "sum over dimensions 1",
        "here": f"{ours['efficiency'].min():.3f} … {ours['efficiency'].max():.3f}",
        "agrees": bool(ours["efficiency"].between(1 - _CLOSE, 1 + _CLOSE).all()),
    }


def _phases(phase: pd.DataFrame) -> dict[str, object]:
    wide = phase.pivot(
        index=["density", "relative_importance", "is_clear"], columns="source", values="state"
    )
    same = wide["trained"] == wide["optimal"]
    clear = same[same.index.get_level_values("is_clear")]
    values = phase.pivot(
        index=["density", "relative_importance"], columns="source", values="capacity"
    )
    apart = (values["trained"] - values["optimal"]).abs().median()
    share = clear.mean() if len(clear) else float("nan")
    return {
        "claim": "the phase diagram of two features in one dimension is the exact one",
        "expected": "states agree on 90 % of points away from boundaries",
        "here": f"{share:.0%} of {len(clear)} points, {same.mean():.0%} of all {len(same)}; "
        f"capacities differ by {apart:.3f} (median)",
        "agrees": bool(share >= 0.9),
    }
