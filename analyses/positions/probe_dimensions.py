"""How many dimensions carry position: probes of few features and of few directions, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analyses.positions.probe_runs import ProbeRun, Settings
from analyses.positions.probe_tables import STREAM, TITLES
from interp.probes import Curve, fit_low_rank, fit_sparse
from interp.probes.sites import Site

SPARSE, LOW_RANK = "features", "directions"
MOST_SITES = 8  # sites of a figure; of more layers the first and last, and some between
SHARE = 0.95


def dimension_tables(
    runs: Sequence[ProbeRun], sites: Sequence[Site], settings: Settings
) -> dict[str, pd.DataFrame]:
    """Curves of positions and offsets along the residual stream, and where they reach 95 %.

    `features` are coordinates of the site, chosen one after another, and read by a ridge
    regression; `directions` are any, the leading discriminants, and tell positions apart as
    classes. Neither has anything to say of the order, which one direction decides. No number is
    given where all dimensions together are not above chance.
    """
    stream = [site for site in sites if site.kind in STREAM]
    chosen = _spread([site for site in stream if site.kind not in ("resid_pre", "resid_mid")]
                     or stream)  # fmt: skip
    curves, reached = [], []
    seen: set[str] = set()
    for run in runs:
        name = run.targets.name
        if name == "order" or name in seen or not chosen:
            continue
        seen.add(name)
        for method, found in _curves(run, chosen, settings).items():
            for label, curve in found.items():
                curves += _points(name, method, label, curve)
                reached.append(_reached(run, method, label, curve))
    if not curves:
        return {}
    return {"dimensions": pd.DataFrame(curves), "dimensions-needed": pd.DataFrame(reached)}


def _spread(sites: Sequence[Site]) -> list[Site]:
    if len(sites) <= MOST_SITES:
        return list(sites)
    step = (len(sites) - 1) / (MOST_SITES - 1)
    return [sites[round(i * step)] for i in range(MOST_SITES)]


def _curves(
    run: ProbeRun, sites: Sequence[Site], settings: Settings
) -> dict[str, Mapping[str, Curve]]:
    features = {site.label: run.features.of[site.label] for site in sites}
    values, split, bootstrap = run.targets.values, run.split, settings.bootstrap
    sparse = fit_sparse(features, values.double(), split, settings.alphas, bootstrap=bootstrap)
    low_rank = fit_low_rank(features, values, split, settings.alphas, bootstrap=bootstrap)
    return {SPARSE: sparse, LOW_RANK: low_rank}


def _points(target: str, method: str, label: str, curve: Curve) -> list[dict[str, Any]]:
    rows = []
    for size, scores in zip(curve.sizes, curve.scores, strict=True):
        for score in ("r2", "accuracy"):
            of = scores[score]
            rows.append(
                {
                    "target": target,
                    "chosen": method,
                    "site": label,
                    "dimensions": size,
                    "measure": TITLES[score],
                    "panel": f"{method}: {TITLES[score]}",
                    "value": of.value,
                    "low": of.low,
                    "high": of.high,
                }
            )
    return rows


def _reached(run: ProbeRun, method: str, label: str, curve: Curve) -> dict[str, Any]:
    row: dict[str, Any] = {"target": run.targets.name, "chosen": method, "site": label}
    for score, chance in (("r2", 0.0), ("accuracy", run.chance.high)):
        size = curve.size_for(score, SHARE, chance)
        row |= {
            f"{score}_of_all": curve.full[score].value,
            f"{score}_95_at": float("nan") if size is None else float(size),
        }
    return row | {"largest": curve.sizes[-1], "alpha": curve.alpha}
