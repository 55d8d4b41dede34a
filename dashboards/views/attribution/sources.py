"""A logit by the tokens that heads read."""

from __future__ import annotations

from typing import Any

import streamlit as st

from analyses.attribution.direct_tables import summed_over_heads
from dashboards.drawing import figures
from dashboards.drawing.wording import plain
from dashboards.page.script import script
from dashboards.page.subject import Subject
from dashboards.readings.attribution import sources
from dashboards.views.attribution.words import SHARE, largest
from dashboards.views.shared import component_panels as panels
from dashboards.views.shared.asked import Asked
from interp.charts import Chart
from interp.errors import InputError

LEADING = 12  # heads in the chart of heads by source


def draw_sources(subject: Subject, asked: Asked, name: str) -> None:
    """What heads take from each token, at one position."""
    st.subheader("By source token")
    try:
        found = sources(subject, asked.position, asked.measure)
    except InputError as fault:  # too much for a page; what else it holds is drawn all the same
        st.info(plain(fault))
        return
    panels.outcome(
        subject,
        found.check,
        "Each head's sources sum to its share.",
        "An intervention on what a head writes acts behind this split: sources show what its "
        "pattern and its values would have written.",
    )
    call = (
        "from analyses.attribution.direct_tables import sources_table, summed_over_heads\n\n"
        f"found = sources_table(model, {asked.position}, {asked.written}, **inputs)\n"
    )
    bars: dict[str, Any] = {
        "kind": "bars", "x": "source", "x_text": "source_token", "value": "attribution",
        "value_label": SHARE, "signed": True,
    }  # fmt: skip
    left, right = st.columns(2)
    own = found.table[found.table["head"] == name].reset_index(drop=True)
    if not own.empty:
        with left:
            drawn = Chart(
                **bars,
                table="sources",
                title=f"{name} by source",
                alt=f"What {name} adds {asked.at} by the token that it read: "
                f"{largest(own, 'source_token')}.",
            )
            rows = f'table = found.table[found.table["head"] == {name!r}].reset_index(drop=True)'
            code = script(subject, call + rows)
            figures.chart(drawn, own, "attribution/sources/head", height=360, code=code)
    with right if not own.empty else st.container():
        summed = summed_over_heads(found.table)
        drawn = Chart(
            **bars,
            table="summed",
            title="All heads by source",
            alt=f"What all heads together add {asked.at} by the token that they read: "
            f"{largest(summed, 'source_token')}.",
        )
        code = script(subject, f"{call}table = summed_over_heads(found.table)")
        figures.chart(drawn, summed, "attribution/sources/all", height=360, code=code)
    sizes = found.table.groupby("head")["attribution"].apply(lambda x: x.abs().sum())
    chosen = sizes.nlargest(LEADING).index
    leading = found.table[found.table["head"].isin(chosen)].reset_index(drop=True)
    drawn = Chart(
        kind="heatmap",
        table="sources",
        x="source",
        x_text="source_token",
        y="order",
        y_text="head",
        y_label="head",
        value="attribution",
        value_label=SHARE,
        signed=True,
        title=f"Heads by source: {asked.quantity}, {asked.at}",
        alt=f"What the {len(chosen)} heads with the largest shares add, down, by the token that "
        f"they read, across: {largest(leading, 'source_token', 'head')}.",
    )
    code = script(
        subject,
        f'{call}sizes = found.table["attribution"].abs().groupby(found.table["head"]).sum()\n'
        f'rows = found.table["head"].isin(sizes.nlargest({LEADING}).index)\n'
        "table = found.table[rows].reset_index(drop=True)",
    )
    here = None if own.empty else {"order": own["order"].iloc[0]}
    figures.chart(drawn, leading, "attribution/sources/leading", code=code, chosen=here)
    if subject.loaded.is_seq2seq:
        st.caption("Self-attention of the decoder alone; heads of cross-attention read the source.")
