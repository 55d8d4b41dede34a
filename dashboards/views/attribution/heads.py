"""A logit by head, and by attention and MLP of each layer."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from analyses.attribution.contributions import Contributions, by_sublayer
from dashboards.drawing import figures
from dashboards.page.address import Choices
from dashboards.page.script import script
from dashboards.page.subject import Subject
from dashboards.views.attribution.words import SHARE
from dashboards.views.shared import component_panels as panels
from dashboards.views.shared.asked import Asked
from interp.charts import Chart

KINDS = {"head": "Self-attention", "cross-head": "Cross-attention"}


def draw_heads(subject: Subject, choices: Choices, found: Contributions, asked: Asked) -> None:
    """Every head; a click on one chooses it."""
    heads = found.table[found.table["kind"].isin(["head", "cross-head"])].reset_index(drop=True)
    crosses = bool((heads["kind"] == "cross-head").any())
    best = heads.iloc[heads["contribution"].abs().nlargest(3).index]
    told = [f"{c} {v:+.3g}" for c, v in zip(best["component"], best["contribution"], strict=True)]
    drawn = Chart(
        kind="heatmap",
        table="heads",
        x="number",
        x_label="head",
        y="layer",
        value="contribution",
        value_label=SHARE,
        facet="kind" if crosses else None,
        signed=True,
        title=f"Heads: {asked.quantity}",
        alt=f"What each head adds to the {asked.quantity}, {asked.at}, layers down, heads across. "
        f"Largest: {', '.join(told)}.",
    )
    code = _script(
        subject,
        asked,
        'heads = found.table["kind"].isin(["head", "cross-head"])\n'
        "table = found.table[heads].reset_index(drop=True)",
    )
    # Another choice, another element: a cell that was clicked before can be clicked again.
    key = f"attribution/heads/{choices.kept.get('layer', '')}/{choices.kept.get('head', '')}"
    figures.chart(
        drawn, heads, key, height=None if crosses else 380, code=code,
        chosen=_chosen(choices, heads),
        on_select=lambda: pick(choices, key), selection_mode="points",
    )  # fmt: skip


def _chosen(choices: Choices, heads: pd.DataFrame) -> dict[Any, Any] | None:
    """The head that is looked at closely below."""
    own = heads[heads["kind"] == choices.kept.get("attends", "head")]
    if own.empty:
        return None
    top = own.iloc[int(own["contribution"].abs().argmax())]
    wanted = [choices.kept.get("layer", str(top["layer"]))]
    wanted.append(choices.kept.get("head", str(top["number"])))
    rows = own[(own["layer"].astype(str) == wanted[0]) & (own["number"].astype(str) == wanted[1])]
    return None if rows.empty else rows[["kind", "layer", "number"]].iloc[0].to_dict()


def pick(choices: Choices, key: str) -> None:
    """Choose the head whose cell was clicked."""
    points: list[Any] = st.session_state[key]["selection"]["points"]
    for point in points:
        head, layer, *kind = point["customdata"][:3]
        choices.keep("layer", str(int(layer)))
        choices.keep("head", str(int(head)))
        if kind and kind[0] in KINDS:
            choices.keep("attends", kind[0])


def draw_sublayers(subject: Subject, found: Contributions, asked: Asked) -> None:
    """Attention and MLP of each layer."""
    table = by_sublayer(found.table)
    best = table.iloc[table["contribution"].abs().nlargest(4).index]
    told = [f"{s} {v:+.3g}" for s, v in zip(best["sublayer"], best["contribution"], strict=True)]
    drawn = Chart(
        kind="bars",
        table="sublayers",
        x="sublayer",
        value="contribution",
        value_label=SHARE,
        signed=True,
        title=f"Attention and MLPs by layer: {asked.quantity}",
        alt=f"What each sublayer adds to the {asked.quantity}, {asked.at}. Largest: "
        f"{', '.join(told)}.",
    )
    code = _script(subject, asked, "table = by_sublayer(found.table)", "by_sublayer, ")
    figures.chart(drawn, table, "attribution/sublayers", height=380, code=code)


def _script(subject: Subject, asked: Asked, rest: str, also: str = "") -> str:
    return script(
        subject,
        f"from analyses.attribution.contributions import {also}contributions\n\n"
        f"{panels.call(asked, 'head')}\n{rest}",
    )
