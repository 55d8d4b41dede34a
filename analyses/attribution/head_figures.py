"""Which components wrote the logit of a prediction, as charts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from interp.charts.spec import Chart
from interp.charts.tokens import visible

if TYPE_CHECKING:
    from analyses.attribution.head_attribution import Setting


def head_attribution_figures(
    setting: Setting, chosen: tuple[int, int], heads: Sequence[tuple[int, int]]
) -> dict[str, Chart]:
    """The charts of the tables of `head-attribution`.

    Args:
        setting: What is explained.
        chosen: The head that is split by source token, (layer, head).
        heads: Those whose patterns are shown.
    """
    at = f"at position {setting.position} (“{visible(setting.texts[setting.position])}”)"
    unit = "attribution (logits)"
    head = f"L{chosen[0]}H{chosen[1]}"
    return {
        "heads": Chart(
            kind="heatmap",
            table="at-position",
            where={"kind": "head"},
            x="head",
            y="layer",
            value="attribution",
            value_label=unit,
            signed=True,
            title=f"Heads: {setting.quantity}, {at}",
            alt=f"What each head adds to the {setting.quantity} {at}, layers down, heads across.",
        ),
        "components": Chart(
            kind="bars",
            table="leading",
            x="component",
            value="attribution",
            value_label=unit,
            color="kind",
            signed=True,
            title=f"Components: {setting.quantity}, {at}",
            alt=f"What each component adds to the {setting.quantity} {at}, largest in size first.",
        ),
        "by-position": Chart(
            kind="heatmap",
            table="components",
            x="position",
            x_text="token",
            x_label="destination",
            y="order",
            y_text="component",
            y_label="component",
            value="attribution",
            value_label=unit,
            signed=True,
            title=f"Every destination: {setting.quantity}",
            alt=f"What each component adds to the {setting.quantity} at every position.",
        ),
        "by-source": Chart(
            kind="bars",
            table="by-source",
            x="source",
            x_text="source_token",
            value="attribution",
            value_label=unit,
            signed=True,
            title=f"{head} by source token: {setting.quantity}, {at}",
            alt=f"How the share of head {head} {at} divides over the tokens that it reads.",
        ),
        "patterns": Chart(
            kind="attention",
            table="patterns",
            x="source",
            x_text="source_token",
            y="destination",
            y_text="destination_token",
            value="attention",
            facet="head",
            title="Attention of the heads with the largest direct attribution",
            alt=(
                "Attention patterns of "
                + ", ".join(f"L{layer}H{number}" for layer, number in heads)
                + ": destination tokens down, source tokens across."
            ),
        ),
    }
