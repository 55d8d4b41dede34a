"""The figures of a circuit search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from interp.charts.spec import Chart

if TYPE_CHECKING:
    from analyses.circuits.search import CircuitSearchParams
    from analyses.inputs.pairs import Pairs

SCORES = {
    "eap-ig": "EAP-IG, a first-order estimate",
    "eap": "EAP, a first-order estimate",
    "exact": "exact edge patching",
}


def circuit_figures(
    params: CircuitSearchParams, pairs: Pairs, tables: Mapping[str, pd.DataFrame]
) -> dict[str, Chart]:
    """The circuit drawn, its curves, and the edges of the highest scores."""
    edges, summary = tables["edges"], tables["summary"]
    here = summary[summary["searched_with"]].iloc[0]
    n, drawn = int(here["edges"]), edges.loc[edges["drawn"], "edge"].nunique()
    shown = "" if drawn == n else f", the {drawn} largest drawn"
    score = SCORES[params.score]
    judged = f"{params.ablation} ablation"
    return {
        "circuit": Chart(
            kind="graph",
            table="edges",
            where={"drawn": True},
            x="source",
            y="target",
            value="score",
            value_label="score (logits)",
            x_level="source_level",
            y_level="target_level",
            color="input",
            title=f"Circuit of {n} edges{shown}: faithfulness {here['faithfulness']:.2f} "
            f"({judged})",
            alt=f"The {n} edges of the circuit, embeddings below and the logits above; the width "
            f"is the score ({score}), the colour the reader's input. Metric: {pairs.quantity}.",
        ),
        "faithfulness": _line(
            params,
            "faithfulness",
            "faithfulness (1: as all edges, 0: as none)",
            "What the first edges keep of the metric, by ablation",
            "Faithfulness of the first edges of the ranking against their number, with each "
            "ablation, and for edges in random order.",
        ),
        "completeness": _line(
            params,
            "completeness",
            "metric of the rest (1: as all edges, 0: as none)",
            "What the rest of the model does without the first edges, by ablation",
            "The normalised metric of all other edges against the number of edges left out, with "
            "each ablation, and for edges in random order.",
        ),
        "leading": Chart(
            kind="bars",
            table="leading",
            x="edge",
            value="normalised",
            value_label="score, as a share of the metric's difference",
            color="input",
            signed=True,
            title=f"Edges of the highest scores ({score})",
            alt=f"The edges whose score is largest in size. Metric: {pairs.quantity}.",
        ),
    }


def _line(params: CircuitSearchParams, y: str, label: str, title: str, alt: str) -> Chart:
    return Chart(
        kind="line",
        table="curve",
        x="first_edges",
        x_label=f"first edges of the ranking ({params.score})",
        y=y,
        y_label=label,
        color="ablation",
        log_x=True,
        title=title,
        alt=alt,
    )
