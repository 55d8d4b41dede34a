"""Which activations carry the difference between two prompts, as charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from analyses.patching.place_experiment import BY_HEAD, STREAMS, PlaceExperiment, Site
from interp.charts.spec import Chart

if TYPE_CHECKING:
    from analyses.patching.activation_patching import ActivationPatchingParams

_WORDS: dict[Site, str] = {
    "resid_pre": "the residual stream before it",
    "attn_out": "what its attention writes",
    "mlp_out": "what its MLP writes",
    "z": "output",
    "q": "queries",
    "k": "keys",
    "v": "values",
    "pattern": "pattern",
}


def activation_figures(
    experiment: PlaceExperiment,
    params: ActivationPatchingParams,
    chosen: Sequence[Site],
    tables: Mapping[str, pd.DataFrame],
) -> dict[str, Chart]:
    """The charts of those of these tables that there are.

    Args:
        experiment: What was run.
        params: What was asked.
        chosen: The sites that were patched.
        tables: Those of `activation-patching`, by name.
    """
    put_in = "clean" if params.direction == "denoise" else "corrupted"

    def listed(of: Sequence[Site]) -> str:
        return ", ".join(_WORDS[site] for site in of if site in chosen)

    what = f"{put_in} activations put in, {experiment.quantity}"
    tokens = "position" if experiment.pairs.n_pairs == 1 else "position (tokens of pair 0)"
    measured: dict[str, Any] = {
        "kind": "heatmap",
        "value": "normalised",
        "value_label": "normalised effect",
        "signed": True,
    }
    by_position: dict[str, Any] = {"x": "position", "x_text": "token", "x_label": tokens}
    figures = {
        "streams": Chart(
            table="streams",
            **by_position,
            y="layer",
            facet="site",
            title=f"By layer and position: {what}",
            alt="How far one layer at one position carries the answer over: "
            f"{listed(STREAMS)}. Layers down, positions across; 1 is all the way.",
            **measured,
        ),
        "heads": Chart(
            table="heads",
            x="head",
            y="layer",
            facet="site",
            title=f"By head, at all positions: {what}",
            alt=f"How far each head's {listed(BY_HEAD)} carry the answer over. Layers down, heads "
            "across; 1 is all the way.",
            **measured,
        ),
        "heads-by-position": Chart(
            table="heads-by-position",
            **by_position,
            y="order",
            y_text="head",
            y_label="head",
            title=f"Leading heads by position: {what}",
            alt="How far the output of each leading head at one position carries the answer over. "
            "Heads down, positions across; 1 is all the way.",
            **measured,
        ),
    }
    return {name: chart for name, chart in figures.items() if name in tables}
