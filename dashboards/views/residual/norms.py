"""Norms of the streams, and of what attention and MLPs add to them."""

from __future__ import annotations

import streamlit as st

from analyses.attribution.stream_norms import STREAM, Stack
from dashboards.drawing import figures
from dashboards.page.address import Choices
from dashboards.page.script import script
from dashboards.page.subject import Subject
from dashboards.readings.lens import norms
from interp.charts import Chart
from interp.charts.tokens import visible

NORMS = {
    "stream": "The residual stream",
    "added": "What attention and MLPs add",
    "relative": "The same, over the stream that the block reads",
}


def draw_norms(subject: Subject, choices: Choices, stack: Stack, position: int) -> None:
    """Norms by layer and position, that of the decoder's stream outlined where it is drawn."""
    st.subheader("Norms")
    left, middle = st.columns(3)[:2]
    with left:
        what = choices.choice("norms", "Norms of", list(NORMS), "stream", show=NORMS.__getitem__)
    with middle:
        skip = choices.toggle(
            "skip", "Leave out position 0", False,
            help="The first token's stream is often many times as long as all others.",
        )  # fmt: skip
    whole = norms(subject, stack)
    sign = "==" if what == "stream" else "!="
    rows = whole["what"] == STREAM if what == "stream" else whole["what"] != STREAM
    body = (
        "from analyses.attribution.stream_norms import norms_table\n\n"
        f"table = norms_table(model, {stack!r}, **inputs)\n"
        f'table = table[table["what"] {sign} {STREAM!r}]'
    )
    if skip and whole["position"].max() > 0:
        rows &= whole["position"] > 0
        body += '\ntable = table[table["position"] > 0]'
    body += "\ntable = table.reset_index(drop=True)"
    table = whole[rows].reset_index(drop=True)
    value = "relative" if what == "relative" else "norm"
    most = table.iloc[int(table[value].argmax())]
    drawn = Chart(
        kind="heatmap",
        table="norms",
        x="position",
        x_text="token",
        y="layer",
        y_text="stream",
        y_label="layer",
        value=value,
        value_label="norm" if value == "norm" else "norm / norm of the stream",
        limits=(0.0, float(most[value]) or 1.0),
        facet=None if what == "stream" else "what",
        title=f"Norm: {NORMS[what][0].lower()}{NORMS[what][1:]}",
        alt=f"Euclidean norms by layer, down, and position, across. The largest is "
        f"{most[value]:.4g}, of the {most['what']} of layer {most['stream']} at position "
        f"{most['position']} (“{visible(most['token'])}”).",
    )
    chosen = {"position": position} if stack == "main" else None
    code = script(subject, body)
    figures.chart(drawn, table, f"residual/norms/{what}", code=code, chosen=chosen)
    if what == "stream":
        st.caption("Layer l is what block l reads; `final` is what the unembedding reads.")
