"""One head large: where it looks, and how spread out that is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from analyses.heads.attention_maps import cells_table, focus_table
from dashboards.drawing import figures
from dashboards.drawing.wording import plain
from dashboards.page.subject import Subject
from dashboards.readings.attention import Maps
from dashboards.views.attention import numbers
from dashboards.views.attention.choice import MOST, ROLLOUT, Wanted
from interp.charts import Chart
from interp.charts.tokens import visible

_HEIGHT = 560  # pixels
_SLACK = 1e-6  # above 1, of rounding
_LABELS = {
    "pattern": "attention",
    "weighted": "attention × ‖v W_O‖",
    "scores": "score",
    ROLLOUT: "share of the token",
}
_TITLES = {
    "pattern": "Attention",
    "weighted": "Attention weighted by the length of what is moved",
    "scores": "Attention scores",
    ROLLOUT: "Attention rollout",
}


def draw_map(subject: Subject, wanted: Wanted) -> None:
    """Draw the large map."""
    whole = wanted.measure == ROLLOUT or not isinstance(wanted.head, int)
    st.subheader(plain(wanted.name.capitalize() if whole else f"Head {wanted.name}"))
    cells = numbers.large(subject, wanted)
    destinations, sources = numbers.texts(subject, wanted)
    table = cells_table(cells, destinations, sources, wanted.column)
    least, most = table[wanted.column].min(), float(table[wanted.column].max())
    # Interventions on a pattern may leave 0 … 1, the scale of a chart of attention.
    signed = wanted.is_signed or bool(least < 0)
    is_share = wanted.measure != "weighted" and (signed or most <= 1 + _SLACK)
    drawn = Chart(
        kind="attention" if is_share else "heatmap",
        table="map",
        x="source",
        x_text="source_token",
        y="destination",
        y_text="destination_token",
        value=wanted.column,
        value_label=_LABELS[wanted.measure] + (", change" if _is_change(wanted) else ""),
        signed=signed,
        limits=None if signed or is_share else (0.0, most or 1.0),
        title=f"{_TITLES[wanted.measure]} of {wanted.name}",
        alt=_alt(subject, wanted, cells, table),
    )
    figures.chart(
        drawn,
        table,
        "attention/large",
        height=_HEIGHT,
        titled=False,
        code=numbers.code(
            subject,
            wanted,
            wanted.measure,
            f'table = cells_table(cells, destinations, sources, "{wanted.column}")',
        ),
    )


def draw_focus(subject: Subject, wanted: Wanted) -> None:
    """Draw how spread out the pattern is, and where each token looks most."""
    st.subheader("Where each token looks most")
    if _is_change(wanted):
        st.caption("Entropy is that of a pattern, not of a difference: choose one prompt or both.")
        return
    measure = ROLLOUT if wanted.measure == ROLLOUT else "pattern"
    table = focus_table(numbers.large(subject, wanted, measure), *numbers.texts(subject, wanted))
    code = numbers.code(
        subject, wanted, measure, "table = focus_table(cells, destinations, sources)"
    )
    told = ", of weights over their sum" if (wanted.head, measure) == (MOST, "pattern") else ""
    without = int(table["entropy"].isna().sum())
    if without:
        told += f", but for {without} where interventions leave no weights that can be shared out"
    tidy = table.melt(
        ["destination", "destination_token"],
        ["entropy", "uniform"],
        "quantity",
        "nats",
    ).replace({"quantity": {"entropy": wanted.name, "uniform": "uniform attention"}})
    drawn = Chart(
        kind="line",
        table="entropy",
        x="destination",
        x_text="destination_token",
        x_label="destination",
        y="nats",
        y_label="entropy (nats)",
        color="quantity",
        title=f"How spread out the attention of {wanted.name} is",
        alt=(
            f"Entropy of the attention of {wanted.name} at each destination{told}: "
            f"{_mean(table['entropy'])} nats on average; spread evenly over all that a token sees "
            f"it would be {_mean(table['uniform'])}."
        ),
    )
    figures.chart(drawn, tidy, "attention/entropy", height=330, code=code + _MELTED % wanted.name)
    with st.expander("As a table"):
        figures.table(table, "attention/table/focus", "attention-focus", code)


_MELTED = """table = table.melt(
    ["destination", "destination_token"], ["entropy", "uniform"], "quantity", "nats"
).replace({"quantity": {"entropy": %r, "uniform": "uniform attention"}})
"""


def _mean(numbers: pd.Series) -> str:
    return "no" if numbers.isna().all() else f"{numbers.mean():.2f}"


def _is_change(wanted: Wanted) -> bool:
    return wanted.prompts == "difference"


def _alt(subject: Subject, wanted: Wanted, cells: Maps, table: pd.DataFrame) -> str:
    what = {
        "pattern": "Attention",
        "weighted": "Attention times the length of what is moved",
        "scores": "Scores before the softmax",
        ROLLOUT: "Attention rollout",
    }[wanted.measure]
    change = ", the second prompt's less the first's," if _is_change(wanted) else ""
    habits = ""
    if wanted.measure == "pattern" and wanted.attends != "cross" and not change:
        habits = f" {_habits(np.nan_to_num(cells))}"
    return (
        f"{what}{change} of {'' if ' ' in wanted.name else 'head '}{wanted.name}: destination "
        f"tokens down, source tokens across.{habits}{_peak(wanted, table)}"
        f"{numbers.clipped(subject, wanted)}"
    )


def _peak(wanted: Wanted, table: pd.DataFrame) -> str:
    """Where it is largest, the first token's look at itself aside."""
    later = table[table["destination"] > 0]
    later = later if len(later) else table
    sizes = later[wanted.column].abs()
    if sizes.isna().all():
        return ""
    peak = later.iloc[int(sizes.argmax())]
    return (
        f" It is {'largest in size' if wanted.is_signed else 'strongest'} from position "
        f"{peak['destination']} (“{visible(peak['destination_token'])}”) to {peak['source']} "
        f"(“{visible(peak['source_token'])}”): {peak[wanted.column]:.2f}."
    )


def _habits(pattern: Maps) -> str:
    """How much goes to the places that heads often look at, in a sentence."""
    rows = pattern[1:]  # the first token has nothing but itself to look at
    if not len(rows):
        return "It has one token to look at."
    shares = {
        "the first token": rows[:, 0].mean(),
        "the token before": np.diagonal(pattern, -1).mean(),
        "the token itself": np.diagonal(pattern)[1:].mean(),
    }
    told = ", ".join(f"{share:.0%} to {place}" for place, share in shares.items())
    return f"From the second token on, {told}, on average."
