"""One head: its sources at every destination, its tokens, and its OV circuit."""

from __future__ import annotations

import streamlit as st

from analyses.attribution.contributions import Contributions
from dashboards.drawing import figures
from dashboards.drawing.wording import plain
from dashboards.page.address import Choices
from dashboards.page.script import script
from dashboards.page.subject import Subject
from dashboards.readings.attribution import head_sources, ov
from dashboards.views.attribution.heads import KINDS
from dashboards.views.attribution.words import SHARE
from dashboards.views.shared import component_panels as panels
from dashboards.views.shared.asked import Asked
from interp.charts import Chart
from interp.charts.tokens import visible

DRAWN = 128  # tokens of a head's sources
TOP_OV = 5


def draw_one_head(subject: Subject, choices: Choices, found: Contributions, asked: Asked) -> str:
    """One head at all destinations, its tokens, its OV circuit. Gives its label."""
    model = subject.loaded.model
    st.subheader("One head")
    left, middle, right = st.columns(3)
    kind = "head"
    if subject.loaded.is_seq2seq:
        with right:
            kind = choices.choice("attends", "Of", list(KINDS), "head", show=KINDS.__getitem__)
    own = found.table[found.table["kind"] == kind]
    top = own.iloc[int(own["contribution"].abs().argmax())]
    with left:
        layer = choices.choice("layer", "Layer", range(model.cfg.n_layers), int(top["layer"]))
    with middle:
        head = choices.choice(
            "head", "Head", range(model.cfg.n_heads), int(top["number"]),
            help="By default that with the largest share. A click on a cell of the heads chooses "
            "too.",
        )  # fmt: skip
    chosen = own[(own["layer"] == layer) & (own["number"] == head)].iloc[0]
    name = str(chosen["component"])
    share = chosen["contribution"]
    st.caption(plain(f"{name} adds {share:+.4g} to the {asked.quantity}, {asked.at}."))
    if kind == "cross-head":
        st.caption("Heads of cross-attention are not split by source: they read another sequence.")
        panels.tokens_of(subject, name, asked.position, "attribution/tokens")
        return name
    left, right = st.columns(2)
    with left:
        _matrix(subject, asked, layer, head)
    with right:
        panels.tokens_of(subject, name, asked.position, "attribution/tokens")
        _ov(subject, layer, head)
    return name


def _matrix(subject: Subject, asked: Asked, layer: int, head: int) -> None:
    name = f"L{layer}H{head}"
    n = len(subject.predicts.tokens)
    table = head_sources(subject, layer, head, asked.measure)
    body = (
        "from analyses.attribution.direct_tables import head_sources_table\n\n"
        f"table = head_sources_table(model, {layer}, {head}, {asked.written}, **inputs)"
    )
    clipped = ""
    if n > DRAWN:
        table = table[(table["destination"] < DRAWN) & (table["source"] < DRAWN)]
        table = table.reset_index(drop=True)
        body += (
            f'\ndrawn = (table["destination"] < {DRAWN}) & (table["source"] < {DRAWN})'
            "\ntable = table[drawn].reset_index(drop=True)"
        )
        clipped = f" The first {DRAWN} of {n} tokens are drawn."
    top = table.iloc[int(table["attribution"].abs().argmax())]
    drawn = Chart(
        kind="attention",
        table="matrix",
        x="source",
        x_text="source_token",
        y="destination",
        y_text="destination_token",
        value="attribution",
        value_label=SHARE,
        signed=True,
        title=f"{name} by source, at every destination",
        alt=f"What {name} adds to the {asked.quantity} at each destination, down, by the source "
        f"that it read, across. Largest: {top['attribution']:+.3g} from "
        f"“{visible(top['source_token'])}” ({top['source']}) to "
        f"“{visible(top['destination_token'])}” ({top['destination']}).{clipped}",
    )
    chosen = {"destination": asked.position}
    code = script(subject, body)
    figures.chart(drawn, table, "attribution/matrix", height=560, code=code, chosen=chosen)


def _ov(subject: Subject, layer: int, head: int) -> None:
    box = st.expander(
        "What its OV circuit makes of these tokens", key="attribution/ov", on_change="rerun"
    )
    if not box.open:
        return
    ids = list(subject.predicts.tokens)
    with box:
        st.caption(
            "From the weights alone: token embedding, W_V, W_O and unembedding, per unit of the "
            "norms' scales and less the mean over the vocabulary. What earlier layers have made of "
            "a token is left out, and interventions change nothing here. `own_score` is that of "
            "the token itself: above zero, the head copies it."
        )
        code = script(
            subject,
            "from analyses.attribution.direct_tables import ov_table\n\n"
            f"table = ov_table(model, {layer}, {head}, {ids}, {TOP_OV})",
        )
        frame = ov(subject, layer, head, TOP_OV)
        figures.table(frame, "attribution/ov/table", f"ov-L{layer}H{head}", code)
