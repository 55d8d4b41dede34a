"""What Scherlis et al. and the exact theory say of capacity, beside what was found."""

from __future__ import annotations

import pandas as pd
import torch

from analyses.superposition.capacity_tables import NORMAL, STATES
from analyses.superposition.findings import Finding, findings_table
from interp.toys.quadratic import kurtosis_of

_CLOSE = 0.05


def findings_of(tables: dict[str, pd.DataFrame], d_hidden: int) -> pd.DataFrame:
    """What is to be expected, by the paper or by theory, and what was found.

    What none of the densities can show has no row.
    """
    capacities, totals = tables["capacities"], tables["totals"]
    marginals, blocks = tables["marginals"], tables["blocks"]
    ours = capacities[capacities["model"] == "quadratic"]
    best = totals[totals["is_best"]]
    quadratic = best[best["model"] == "quadratic"].sort_values("kurtosis")
    rows = [
        _order(ours),
        _all_states(ours),
        _spread(quadratic),
        *_distance(ours),
        Finding(
            claim="training uses all of the capacity that there is",
            expected=f"total {d_hidden}",
            here=f"{best['total_capacity'].min():.2f} … {best['total_capacity'].max():.2f}",
            agrees=bool((best["total_capacity"] > 0.95 * d_hidden).all()),
        ),
        _equal(marginals),
        _block_sizes(blocks),
        _efficient(blocks),
        _phases(tables["phase"]),
    ]
    return findings_table(rows, "expected")


def _order(quadratic: pd.DataFrame) -> Finding | None:
    spread = quadratic[_is_spread(quadratic["density"]) & (quadratic["source"] == "trained")]
    if spread.empty:
        return None
    wide = spread.pivot(index="density", columns="feature", values="capacity")
    rise = max(0.0, float(wide.diff(axis=1).iloc[:, 1:].to_numpy().max()))
    return Finding(
        claim="more important features have more capacity (quadratic toy, kurtosis above 3)",
        expected="falls with importance",
        here=f"largest rise from a feature to the next {rise:.3f}, of {len(wide)} densities",
        agrees=rise < _CLOSE,
    )


def _all_states(quadratic: pd.DataFrame) -> Finding | None:
    counts = quadratic.groupby(["source", "density"])["state"].nunique()
    there = counts[counts == len(STATES)].reset_index()
    found = {
        source: [f"{density:g}" for density in there.loc[there["source"] == source, "density"]]
        for source in ("optimal", "trained")
    }
    if not found["optimal"]:
        return None
    return Finding(
        claim="the first features have a whole dimension, the next a part, the last none "
        "(quadratic toy)",
        expected=f"at densities {', '.join(found['optimal'])} (the optimum)",
        here=f"at {', '.join(found['trained']) or 'none'}",
        agrees=found["optimal"] == found["trained"],
    )


def _is_spread(density: pd.Series) -> pd.Series:
    """Where the optimum gives features parts of a dimension."""
    kurtosis = kurtosis_of(torch.tensor(density.to_list(), dtype=torch.float64))
    return pd.Series((kurtosis > NORMAL + 1e-9).numpy(), index=density.index)


def _spread(quadratic: pd.DataFrame) -> Finding | None:
    peaked = _is_spread(quadratic["density"])
    normal, beyond = (quadratic.loc[which, "polysemantic"] for which in (~peaked, peaked))
    if normal.empty or len(beyond) < 2:
        return None
    return Finding(
        claim="polysemanticity grows with kurtosis, and begins beyond 3 (quadratic toy)",
        expected="0 features up to kurtosis 3, then more and more",
        here=f"up to 3: {', '.join(map(str, normal))}; beyond: {', '.join(map(str, beyond))}",
        agrees=bool((normal == 0).all() and (beyond > 0).all() and (beyond.diff()[1:] >= 0).all()),
    )


def _distance(quadratic: pd.DataFrame) -> list[Finding]:
    wide = quadratic.pivot(index=["density", "feature"], columns="source", values="capacity")
    difference = (wide["trained"] - wide["optimal"]).abs().reset_index(name="apart")
    peaked = _is_spread(difference["density"])
    rows = []
    for where, apart in (
        ("kurtosis above 3", difference.loc[peaked, "apart"]),
        ("kurtosis up to 3, where there are local minima", difference.loc[~peaked, "apart"]),
    ):
        if len(apart):
            rows.append(
                Finding(
                    claim=f"training finds the optimal capacities (quadratic toy, {where})",
                    expected="difference 0",
                    here=f"mean {apart.mean():.3f}, largest {apart.max():.3f}",
                    agrees=bool(apart.max() < _CLOSE),
                )
            )
    return rows


def _equal(marginals: pd.DataFrame) -> Finding | None:
    shared = marginals[(marginals["state"] == "polysemantic") & (marginals["kurtosis"] > NORMAL)]
    if shared.empty:
        return None
    ratio = (shared["marginal_benefit"] / shared["level"] - 1).abs()
    return Finding(
        claim="polysemantic features have equal marginal losses (quadratic toy)",
        expected="ratio to 2 λ² of 1",
        here=f"off by {ratio.median():.3f} (median), {ratio.max():.3f} (largest) of "
        f"{len(ratio)} features",
        agrees=bool(ratio.median() < _CLOSE),
    )


def _block_sizes(blocks: pd.DataFrame) -> Finding | None:
    shared = blocks[blocks["n_features"] > 1]
    if shared.empty:
        return None
    largest = shared.groupby("model")["n_features"].max().reindex(["quadratic", "relu"])
    sizes = largest.fillna(1).astype(int)
    return Finding(
        claim="block sizes depend on the architecture",
        expected="one large block for the quadratic toy, small ones for the ReLU toy",
        here=f"features in the largest block: {sizes['quadratic']} (quadratic), "
        f"{sizes['relu']} (ReLU)",
        agrees=bool(sizes["quadratic"] > sizes["relu"]),
    )


def _efficient(blocks: pd.DataFrame) -> Finding:
    ours = blocks[blocks["model"] == "quadratic"]
    return Finding(
        claim="each block is a tight frame, whose capacities sum to its dimensions (quadratic toy)",
        expected="sum over dimensions 1",
        here=f"{ours['efficiency'].min():.3f} … {ours['efficiency'].max():.3f}",
        agrees=bool(ours["efficiency"].between(1 - _CLOSE, 1 + _CLOSE).all()),
    )


def _phases(phase: pd.DataFrame) -> Finding:
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
    return Finding(
        claim="the phase diagram of two features in one dimension is the exact one",
        expected="states agree on 90 % of points away from boundaries",
        here=f"{share:.0%} of {len(clear)} points, {same.mean():.0%} of all {len(same)}; "
        f"capacities differ by {apart:.3f} (median)",
        agrees=bool(share >= 0.9),
    )
