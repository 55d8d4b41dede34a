"""Charts of information flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from interp.attribution.routes import Routes
from interp.charts.spec import Chart
from interp.charts.tokens import visible


def figures(
    routes: Routes, tables: Mapping[str, pd.DataFrame], texts: Sequence[str]
) -> dict[str, Chart]:
    """The graph of routes, flow by node, token and head, and importance by layer and position."""
    traced = ", ".join(f"{place} (“{visible(texts[place])}”)" for place in routes.positions)
    traced = f"position{'s' if len(routes.positions) > 1 else ''} {traced}"
    drawn = {
        "nodes": Chart(
            kind="heatmap",
            table="nodes",
            x="position",
            x_text="token",
            x_label="position",
            y="level",
            y_text="stream",
            y_label="residual stream",
            value="flow",
            value_label="flow",
            probability=True,
            title=f"Flow to {traced} through each residual stream",
            alt=(
                f"The share of what arrives at {traced} that stands at each position of each "
                f"residual stream. Of the tokens: {leading_tokens(routes, texts)}."
            ),
        ),
        "tokens": Chart(
            kind="bars",
            table="nodes",
            where={"level": 0},
            x="position",
            x_text="token",
            x_label="token",
            value="flow",
            value_label="flow",
            title=f"Flow to {traced} by token",
            alt=(
                f"The share of what arrives at {traced} that comes from each token. "
                f"Of the tokens: {leading_tokens(routes, texts)}."
            ),
        ),
        "heads": Chart(
            kind="heatmap",
            table="head-totals",
            x="head",
            y="layer",
            value="flow",
            value_label="flow",
            title=f"Flow to {traced} by head",
            alt=f"The share of what arrives at {traced} that passes each head. "
            f"{_leading_head(tables['head-totals'])}",
        ),
        "parts": Chart(
            kind="heatmap",
            table="parts",
            x="position",
            x_text="token",
            x_label="position",
            y="level",
            y_text="stream",
            y_label="residual stream",
            value="importance",
            probability=True,
            facet="part",
            title="What each residual stream is made of",
            alt="The importance of the stream before, attention, the MLP and biases in every "
            "residual stream at every position.",
        ),
    }
    if not len(tables["graph"]):
        return drawn
    shown, kept = len(tables["graph"]), len(tables["edges"])
    part = f"the {shown} edges of most flow" if shown < kept else f"all {kept} edges"
    graph = Chart(
        kind="graph",
        table="graph",
        x="from",
        y="to",
        x_level="from_level",
        y_level="to_level",
        value="flow",
        color="kind",
        title=f"Routes to {traced}: {part} above {routes.threshold:g}",
        alt=f"The routes to {traced}, streams upwards: {part} with an importance above "
        f"{routes.threshold:g}. Of the tokens: {leading_tokens(routes, texts)}.",
    )
    return {"routes": graph, **drawn}


def leading_tokens(routes: Routes, texts: Sequence[str]) -> str:
    """The tokens from which most arrives at the first position that is traced, and how much."""
    top = routes.flow[0].topk(min(3, len(texts)))
    return ", ".join(
        f"{value:.0%} from {place} (“{visible(texts[place])}”)"
        for value, place in zip(top.values.tolist(), top.indices.tolist(), strict=True)
    )


def _leading_head(totals: pd.DataFrame) -> str:
    top = int(totals["flow"].argmax())
    layer, head, flow = (totals[column].iloc[top] for column in ("layer", "head", "flow"))
    return f"Most passes L{layer}H{head}: {flow:.0%}."
