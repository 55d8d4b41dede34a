"""Components of the stream at one position: contributions, sums, and tokens written towards."""

from __future__ import annotations

import streamlit as st

from analyses.attribution.contributions import Contributions, leading
from analyses.attribution.stream_parts import By
from dashboards.drawing import figures
from dashboards.drawing.wording import plain
from dashboards.page.address import Choices
from dashboards.page.script import script
from dashboards.page.subject import Subject
from dashboards.readings.contributions import contributions_at
from dashboards.views.residual.picking import pick
from dashboards.views.shared import component_panels as panels
from dashboards.views.shared.asked import Asked, ask, place, tell
from interp.charts import Chart

CONSTANTS = ("ln_final.b", "b_U")  # parts of a logit that are not in the stream
NEURON = "a neuron"


def draw_components(subject: Subject, choices: Choices, position: int) -> None:
    """What each component adds at a position, in sums and one by one."""
    st.subheader("Components")
    model = subject.loaded.model
    left, middle = st.columns(3)[:2]
    with left:
        by: By = choices.choice(
            "by", "Take apart by", ["layer", "head"], "layer",
            show={"layer": "Attention and MLP of each layer", "head": "Heads and MLPs"}.__getitem__,
        )  # fmt: skip
    if model.cfg.head != "lm":
        found = contributions_at(subject, position, (None, None, False), by)
        st.info(
            plain(
                "A logit is a sum over components only where it is linear in the residual stream "
                f"(head='lm'); this model's head is {model.cfg.head!r}. Below: their vectors."
            )
        )
        panels.totals(subject, found, None)
        _table(subject, found, None, position, by)
        return
    with middle:
        default = "excess" if subject.wrong is None else "difference"
        asked = ask(subject, choices, position, default)
    tell(subject, asked)
    found = contributions_at(subject, position, asked.measure, by)
    panels.totals(subject, found, asked)
    left, right = st.columns(2)
    with left:
        _grid(subject, choices, found, asked, by)
    with right:
        panels.growth(subject, found, asked, by, "residual/growth")
    _bars(subject, found, asked, by)
    _table(subject, found, asked, position, by)
    _tokens(subject, choices, found, position)


def _grid(subject: Subject, choices: Choices, found: Contributions, asked: Asked, by: By) -> None:
    table = found.table[found.table["layer"] >= 0].reset_index(drop=True)
    top = table.iloc[int(table["contribution"].abs().argmax())]
    drawn = Chart(
        kind="heatmap",
        table="contributions",
        x="column",
        x_label="component",
        y="layer",
        value="contribution",
        value_label=panels.UNIT,
        signed=True,
        title=f"Layer by component: {asked.quantity}",
        alt=f"What each component adds to the {asked.quantity}, {asked.at}: layers down, "
        f"components across. The largest is {top['component']}, {top['contribution']:+.4g}.",
    )
    code = script(
        subject,
        "from analyses.attribution.contributions import contributions\n\n"
        f"{panels.call(asked, by)}\n"
        'table = found.table[found.table["layer"] >= 0].reset_index(drop=True)',
    )
    names = table.set_index(["column", "layer"])["component"]
    # Another choice, another element: a cell that was clicked before can be clicked again.
    key = f"residual/grid/{by}/{choices.kept.get('component', '')}"
    here = table[table["component"] == choices.kept.get("component", _default(found))]
    figures.chart(
        drawn, table, key, height=380, code=code,
        chosen=None if here.empty else here[["column", "layer"]].iloc[0].to_dict(),
        on_select=lambda: pick(choices, key, lambda x, y: {"component": names[x, int(y)]}),
        selection_mode="points",
    )  # fmt: skip


def _bars(subject: Subject, found: Contributions, asked: Asked, by: By) -> None:
    table = leading(found.table)
    told = [f"{c} {v:+.3g}" for c, v in zip(table["component"], table["contribution"], strict=True)]
    drawn = Chart(
        kind="bars",
        table="leading",
        x="component",
        value="contribution",
        value_label=panels.UNIT,
        signed=True,
        title=f"Largest contributions: {asked.quantity}, {asked.at}",
        alt=f"What each component adds, largest in size first: {', '.join(told[:5])}.",
    )
    code = script(
        subject,
        "from analyses.attribution.contributions import contributions, leading\n\n"
        f"{panels.call(asked, by)}\n"
        "table = leading(found.table)",
    )
    figures.chart(drawn, table, "residual/bars", height=380, code=code)


def _table(
    subject: Subject, found: Contributions, asked: Asked | None, position: int, by: By
) -> None:
    box = st.expander(
        "Every component: norm, cosine with the stream, share of it, contribution",
        key="residual/all",
        on_change="rerun",
        expanded=asked is None,
    )
    if not box.open:
        return
    line = (
        panels.call(asked, by)
        if asked is not None
        else f"found = contributions(model, {position}, None, by={by!r}, **inputs)"
    )
    code = script(
        subject,
        "from analyses.attribution.contributions import contributions\n\n"
        f"{line}\ntable = found.table",
    )
    with box:
        st.caption(
            f"As each arrives at the last residual stream {plain(place(subject, position))}, past "
            "norms on its way with their scales held. Shares are taken along the stream and sum "
            "to 1; biases behind the stream have none."
        )
        figures.table(found.table, "residual/table", f"components-{position}", code)


def _default(found: Contributions) -> str:
    """The component of the stream with the largest contribution."""
    table = found.table[~found.table["component"].isin(CONSTANTS)]
    return str(table["component"].iloc[int(table["contribution"].abs().argmax())])


def _tokens(subject: Subject, choices: Choices, found: Contributions, position: int) -> None:
    st.subheader("Tokens of a component")
    cfg = subject.loaded.model.cfg
    options = [name for name in found.table["component"] if name not in CONSTANTS]
    has_neurons = not cfg.attn_only and cfg.num_experts is None
    left, middle, right = st.columns(3)
    with left:
        component = choices.choice(
            "component", "Component", [*options, *([NEURON] if has_neurons else [])],
            _default(found),
            help="By default the one with the largest contribution. A click on a cell of layer by "
            "component chooses too.",
        )  # fmt: skip
    if component == NEURON:
        with middle:
            layer = choices.number("neuron_layer", "Layer", 0, 0, cfg.n_layers - 1, 1)
        with right:
            neuron = choices.number("neuron", "Neuron", 0, 0, cfg.width_mlp - 1, 1)
        component = f"L{layer}N{neuron}"
    panels.tokens_of(subject, component, position, "residual/tokens")
