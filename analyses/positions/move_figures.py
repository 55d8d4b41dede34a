"""The charts of moved positions and removed subspaces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from analyses.positions.length_tables import encoding_name
from interp.charts.spec import Chart
from interp.position_effects.rows import Rows

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


def figures_of(
    model: HookedTransformer, rows: Rows, tables: Mapping[str, pd.DataFrame]
) -> dict[str, Chart]:
    """The charts of the tables that there are."""
    encoding = encoding_name(model)
    which = "no positions" if encoding == "none" else f"{encoding} positions"
    on = f"{which}, {rows.kind}"
    figures = {}
    if "effects" in tables:
        figures.update(_effect_figures(tables, on))
    if "by-layer" in tables:
        figures["by-layer"] = Chart(
            kind="bars",
            table="by-layer",
            x="layer",
            value="kl",
            color="what",
            error="kl_stderr",
            value_label="KL from the clean prediction (nats, ± standard error)",
            title=f"One layer without its positions, or with them shuffled: {on}",
            alt="How far predictions go from the clean ones when queries and keys of one layer "
            "alone are not turned by position, or by those of other tokens.",
        )
    if "subspace" in tables:
        figures.update(_subspace_figures(tables, on))
    return figures


def _effect_figures(tables: Mapping[str, pd.DataFrame], on: str) -> dict[str, Chart]:
    bars: dict[str, Any] = {
        "kind": "bars",
        "table": "effects",
        "x": "what",
        "color": "tokens",
        "x_label": "move",
    }
    figures = {
        "effects": Chart(
            **bars,
            value="kl",
            error="kl_stderr",
            value_label="KL from the clean prediction (nats, ± standard error)",
            title=f"Moved positions: {on}",
            alt="How far predictions go from the clean ones for each way of moving tokens, all of "
            "them, some, or one.",
        )
    }
    if "loss_change" in tables["effects"]:
        figures["loss"] = Chart(
            **bars,
            value="loss_change",
            error="loss_change_stderr",
            signed=True,
            value_label="change of the loss (nats, ± standard error)",
            title=f"What moved positions cost: {on}",
            alt="The change of the mean loss for each way of moving tokens; positive: worse.",
        )
        figures["accuracy"] = Chart(
            **bars,
            value="accuracy",
            probability=True,
            value_label="share of right predictions",
            title=f"Right predictions with moved positions (clean: "
            f"{tables['effects']['accuracy_clean'].iloc[0]:.2f}): {on}",
            alt="The share of right predictions for each way of moving tokens.",
        )
    grid: dict[str, Any] = {
        "kind": "heatmap", "table": "leading-heads", "x": "label", "x_label": "head",
        "y": "move", "y_label": "moved",
    }  # fmt: skip
    figures["heads"] = Chart(
        **grid,
        value="total_variation",
        value_label="total variation of the pattern",
        probability=True,
        title=f"How much heads look elsewhere: {on}",
        alt="For each way of moving tokens, down, and each head, across: the share of attention "
        "that goes elsewhere than without.",
    )
    figures["heads-previous"] = Chart(
        **grid,
        value="previous_change",
        value_label="change of the mass on the token before",
        signed=True,
        title=f"Looking at the token before: {on}",
        alt="For each way of moving tokens and each head, the change of the attention to the token "
        "before.",
    )
    if "by-position" in tables:
        figures["by-position"] = Chart(
            kind="line",
            table="by-position",
            x="position",
            y="kl",
            color="move",
            error="kl_stderr",
            y_label="KL from the clean prediction (nats, ± standard error)",
            title=f"Where predictions change: {on}",
            alt="How far the prediction at each position goes from the clean one when one token, "
            "two, or the later half of all are moved.",
        )
    return figures


def _subspace_figures(tables: Mapping[str, pd.DataFrame], on: str) -> dict[str, Chart]:
    line: dict[str, Any] = {
        "kind": "line", "x": "layer", "color": "which", "facet": "rank",
        "x_label": "layer (the last: the output)",
    }  # fmt: skip
    removed = {**line, "table": "subspace"}
    left = {**line, "table": "remaining"}
    figures = {
        "subspace": Chart(
            **removed,
            y="kl",
            error="kl_error",
            y_label="KL (nats)",
            title=f"Without a subspace of the stream (± sd over draws, or standard error): {on}",
            alt="How far predictions go from the clean ones without the subspace that a probe "
            "reads position from, that of the means by position, and random ones of equal rank "
            "and of equal variance; by layer, one panel for each rank.",
        ),
        "remaining": Chart(
            **left,
            y="position_r2",
            y_label="R² of a new probe",
            title=f"What of position is left: {on}",
            alt="How well a new probe reads position from all there is, and from what is left once "
            "each subspace is gone: the share of variance explained.",
        ),
        "remaining-accuracy": Chart(
            **left,
            y="position_accuracy",
            probability=True,
            y_label="read exactly",
            title=f"What of position is left, read exactly: {on}",
            alt="How often a new probe's number, rounded, is the position: from all there is, and "
            "from what is left once each subspace is gone.",
        ),
    }
    if "loss_change" in tables["subspace"]:
        figures["subspace-loss"] = Chart(
            **removed,
            y="loss_change",
            error="loss_change_error",
            signed=True,
            y_label="change of loss (nats)",
            title=f"What a subspace of the stream is worth (± sd, or standard error): {on}",
            alt="The change of the loss without each subspace, by layer, one panel for each rank.",
        )
    return figures
