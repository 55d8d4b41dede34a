"""Panels on components that two pages share: checks, tokens written towards, growth by layer."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analyses.attribution.contributions import Contributions, by_sublayer
from analyses.attribution.stream_parts import is_neuron
from analyses.results.result import Check
from dashboards.drawing import figures
from dashboards.drawing.wording import plain
from dashboards.page.script import script
from dashboards.page.subject import Subject
from dashboards.readings.contributions import activation, promoted
from dashboards.views.shared.asked import Asked, place
from interp.charts import Chart
from interp.charts.tokens import visible

UNIT = "contribution (logits)"


def totals(subject: Subject, found: Contributions, asked: Asked | None) -> None:
    """Say whether the parts sum to what they are parts of."""
    for check in found.checks:
        if check.name == "contributions-sum-to-logit" and asked is not None:
            outcome(
                subject,
                check,
                f"The contributions sum to {found.total:.6g}; the {asked.quantity} is "
                f"{found.value:.6g}.",
            )
        else:
            outcome(subject, check, "The components' vectors sum to the last residual stream.")


_NO_COMPONENT = (
    "An intervention that writes into the residual stream or into a sublayer's output is no "
    "component: what it puts there is in the sum, but in no row."
)


def outcome(subject: Subject, check: Check, says: str, edited: str = _NO_COMPONENT) -> None:
    """A check in a line: what it says, by how much it misses, and what is allowed.

    Args:
        subject: What the page looks at.
        check: Which; its error is relative where the numbers are large (`scaled_error`).
        says: What should hold, in a sentence or two.
        edited: Why it may not hold where interventions are on.
    """
    line = f"{says} Difference over max(1, size): {check.value:.2g} (allowed: {check.tolerance:g})."
    if check.passed:
        st.markdown(f":material/check_circle: {plain(f'Checked: {line}')}")
    elif subject.plan:
        st.warning(plain(f"{line} {edited}"))
    else:
        st.error(plain(f"Failed: {line}"))


def growth(subject: Subject, found: Contributions, asked: Asked, by: str, key: str) -> None:
    """How the logit grows along the layers."""
    table = by_sublayer(found.table)
    last = table.iloc[-1]
    biggest = table.iloc[int(table["contribution"].abs().argmax())]
    drawn = Chart(
        kind="line",
        table="growth",
        x="sublayer",
        x_label="after",
        y="running",
        y_label="sum so far (logits)",
        signed=True,
        title=f"Accumulated: {asked.quantity}",
        alt=f"The sum of contributions from the embeddings on, sublayer by sublayer, biases last: "
        f"it ends at {last['running']:.4g}. The largest step is that of {biggest['sublayer']}, "
        f"{biggest['contribution']:+.4g}.",
    )
    code = script(
        subject,
        "from analyses.attribution.contributions import by_sublayer, contributions\n\n"
        f"{call(asked, by)}\ntable = by_sublayer(found.table)",
    )
    figures.chart(drawn, table, key, height=380, code=code)


def call(asked: Asked, by: str) -> str:
    """The line of Python that finds the contributions."""
    return f"found = contributions(model, {asked.position}, {asked.written}, {by!r}, **inputs)"


def tokens_of(subject: Subject, component: str, position: int, key: str, top_k: int = 10) -> None:
    """Which tokens a component raises and lowers most."""
    table = promoted(subject, component, position, top_k)
    up, down = _ends(table, "promoted"), _ends(table, "suppressed")
    at = place(subject, position)
    drawn = Chart(
        kind="bars",
        table="promoted",
        x="order",
        x_text="token",
        x_label="token",
        value="contribution",
        value_label="logits, less their mean",
        signed=True,
        title=f"Tokens that {component} writes towards and away from, {at}",
        alt=f"What {component} adds to the logits that it raises and lowers most, {at}, by itself: "
        f"promoted {up}; suppressed {down}.",
    )
    neuron = is_neuron(component)
    if neuron is not None:
        value = activation(subject, position, *neuron)
        st.caption(f"Activation of {component} {plain(at)}: {value:.4g}.")
    code = script(
        subject,
        "from analyses.attribution.contributions import promoted_tokens\n\n"
        f"table = promoted_tokens(model, {component!r}, {position}, {top_k}, **inputs)",
    )
    figures.chart(drawn, table, key, height=360, code=code)


def _ends(table: pd.DataFrame, direction: str) -> str:
    rows = table[table["direction"] == direction].sort_values("rank").head(3)
    told = zip(rows["token"], rows["contribution"], strict=True)
    return ", ".join(f"“{visible(token)}” ({value:+.3g})" for token, value in told)
