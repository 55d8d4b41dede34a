"""Probes as tables: each figure with its interval, and its controls beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from analyses.positions.probe_runs import (
    CONTROL,
    RELABELLED,
    SCORES,
    SHUFFLED,
    TOKEN,
    TWIN,
    ProbeRun,
)
from interp.probes import Estimate
from interp.probes.sites import Site

STREAM = ("embed", "pos_embed", "resid_pre", "resid_mid", "resid_post")
TITLES = {"r2": "R²", "accuracy": "accuracy", "mae": "MAE"}


def probes_table(runs: Sequence[ProbeRun], sites: Sequence[Site]) -> pd.DataFrame:
    """A row for every target, probe and site; controls in the columns after its scores."""
    return pd.DataFrame([_row(run, site) for run in runs for site in sites])


def _row(run: ProbeRun, site: Site) -> dict[str, Any]:
    fit = run.own[site.label]
    row: dict[str, Any] = {
        "target": run.targets.name,
        "probe": run.probe,
        "site": site.label,
        **_place(site),
        "same_as": run.features.same.get(site.label, ""),
        "dims": run.features.of[site.label].shape[1],
    }
    row |= _scores(fit.scores)
    row |= {
        "chance_accuracy": run.chance.accuracy,
        "chance_low": run.chance.low,
        "chance_high": run.chance.high,
    }
    for score in ("r2", "accuracy"):
        own = fit[score].value
        if run.token is not None:
            row[f"token_{score}"] = run.token[score].value
        for name, column in ((SHUFFLED, "shuffled"), (CONTROL, "control")):
            if name in run.fits:
                row[f"{column}_{score}"] = run.fits[name][site.label][score].value
        if CONTROL in run.fits:
            row[f"selectivity_{score}"] = own - row[f"control_{score}"]
        if run.token is not None:
            row[f"relabelled_{score}"] = (
                run.fits[RELABELLED][site.label][score].value
                if RELABELLED in run.fits
                else math.nan
            )
        if run.twins:
            of_twins = [fits[site.label][score].value for fits in run.twins]
            row[f"random_{score}"] = sum(of_twins) / len(of_twins)
    row |= {
        "chosen": fit.chosen,
        "at_edge": fit.at_edge,
        "test_samples": len(run.split.test),
        "test_sequences": len(run.targets.groups[run.split.test].unique()),
    }
    return row


def _place(site: Site) -> dict[str, Any]:
    return {
        "kind": site.kind,
        "layer": math.nan if site.layer is None else float(site.layer),
        "head": math.nan if site.head is None else float(site.head),
    }


def controls_table(runs: Sequence[ProbeRun], sites: Sequence[Site]) -> pd.DataFrame:
    """Everything that was fitted, one below the other, with intervals."""
    rows = []
    for run in runs:
        head = {"target": run.targets.name, "probe": run.probe}
        if run.token is not None:
            rows.append({**head, "site": TOKEN, "fitted": TOKEN, **_scores(run.token)})
        for fitted, fits in run.fits.items():
            for site in sites:
                scores = _scores(fits[site.label].scores)
                rows.append({**head, "site": site.label, "fitted": fitted, **scores})
    return pd.DataFrame(rows)


def _scores(of: dict[str, Estimate]) -> dict[str, float]:
    found: dict[str, float] = {}
    for score in SCORES:
        each = of[score]
        found |= {score: each.value, f"{score}_low": each.low, f"{score}_high": each.high}
    return found


def by_layer_table(runs: Sequence[ProbeRun], sites: Sequence[Site]) -> pd.DataFrame:
    """R² and accuracy along the residual stream, a row for every line of the figures.

    Sites that hold the same tensor are there once. `error` is half of the bootstrap interval's
    width; of several random models, whose mean is shown, of the interval that holds all of theirs.
    """
    stream = [site for site in sites if site.kind in STREAM]
    rows = []
    for run in runs:
        for order, site in enumerate(
            site for site in stream if site.label not in run.features.same
        ):
            for score in ("r2", "accuracy"):
                for fitted, of in _lines(run, site, score).items():
                    rows.append(
                        {
                            "target": run.targets.name,
                            "probe": run.probe,
                            "site": site.label,
                            **_place(site),
                            "order": order,
                            "fitted": fitted,
                            "measure": TITLES[score],
                            "value": of.value,
                            "error": (of.high - of.low) / 2,
                        }
                    )
    table = pd.DataFrame(rows)
    return table[table["value"].notna() & table["error"].notna()].reset_index(drop=True)


def _lines(run: ProbeRun, site: Site, score: str) -> dict[str, Estimate]:
    found = {
        fitted: fits[site.label][score]
        for fitted, fits in run.fits.items()
        if not fitted.startswith(TWIN)
    }
    if run.twins:
        of_twins = [fits[site.label][score] for fits in run.twins]
        found[TWIN] = Estimate(
            sum(of.value for of in of_twins) / len(of_twins),
            min(of.low for of in of_twins),
            max(of.high for of in of_twins),
        )
    if run.token is not None:
        found[TOKEN] = run.token[score]
    if score == "accuracy":
        chance = run.chance
        found["chance"] = Estimate(chance.accuracy, chance.low, chance.high)
    return found


def heads_table(runs: Sequence[ProbeRun], sites: Sequence[Site]) -> pd.DataFrame:
    """R² and accuracy of every head's vectors; `drawn` is the score, or 0 where it is less."""
    rows = []
    for run in runs:
        for site in sites:
            if site.head is None or site.layer is None:
                continue
            for score in ("r2", "accuracy"):
                value = run.own[site.label][score].value
                rows.append(
                    {
                        "target": run.targets.name,
                        "probe": run.probe,
                        "kind": site.kind,
                        "layer": site.layer,
                        "head": site.head,
                        "measure": TITLES[score],
                        "panel": f"{site.kind}: {TITLES[score]}",
                        "value": value,
                        "drawn": max(value, 0.0),
                    }
                )
    return pd.DataFrame(rows)


def summary_table(runs: Sequence[ProbeRun], sites: Sequence[Site]) -> pd.DataFrame:
    """Of every target and probe: the best site of the stream and of the heads, with controls."""
    rows = []
    for run in runs:
        for part, chosen in (
            ("stream", [site for site in sites if site.head is None]),
            ("heads", [site for site in sites if site.head is not None]),
        ):
            if not chosen:
                continue
            best = max(chosen, key=lambda site: _rank(run, site))
            rows.append({"part": part, **_row(run, best)})
    columns = ["target", "probe", "part", "site", *_first(rows)]
    return pd.DataFrame(rows)[columns]


def _rank(run: ProbeRun, site: Site) -> float:
    value = run.own[site.label]["accuracy" if run.targets.name == "order" else "r2"].value
    return -math.inf if math.isnan(value) else value


def _first(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The columns of the summary that are there."""
    wanted = ["r2", "accuracy", "mae", "chance_accuracy", "shuffled_r2", "shuffled_accuracy",
              "control_r2", "control_accuracy", "relabelled_r2", "relabelled_accuracy",
              "random_r2", "random_accuracy", "token_r2", "token_accuracy"]  # fmt: skip
    return [column for column in wanted if rows and column in rows[0]]


def markers_table(runs: Sequence[ProbeRun], names: dict[int, str]) -> pd.DataFrame:
    """What was asked: samples, sequences, marker tokens, and what had to give way to them."""
    asked = {run.targets.name: run.targets for run in runs}
    return pd.DataFrame(
        [
            {
                "target": target.name,
                "rows": len(target.tokens),
                "samples": target.n_samples,
                "sequences": len(target.groups.unique()),
                "values": f"{int(target.values.min())} … {int(target.values.max())}",
                "markers": ", ".join(f"{names[i]} ({i})" for i in target.markers) or "none",
                "replaced_tokens": target.n_replaced,
            }
            for target in asked.values()
        ]
    )
