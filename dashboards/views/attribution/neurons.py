"""A logit by neuron."""

from __future__ import annotations

import streamlit as st

from analyses.attribution.contributions import Contributions
from dashboards.drawing import figures
from dashboards.page.address import Choices
from dashboards.page.script import script
from dashboards.page.subject import Subject
from dashboards.readings.attribution import neurons
from dashboards.views.attribution.words import SHARE
from dashboards.views.shared import component_panels as panels
from dashboards.views.shared.asked import Asked
from interp.charts import Chart

TOP_NEURONS = 20


def draw_neurons(subject: Subject, choices: Choices, found: Contributions, asked: Asked) -> None:
    """The leading neurons of one MLP, and the tokens of one of them."""
    st.subheader("By neuron")
    own = found.table[found.table["kind"] == "mlp"]
    default = int(own["layer"].iloc[int(own["contribution"].abs().argmax())])
    left, middle = st.columns(3)[:2]
    with left:
        layer = choices.choice(
            "mlp", "MLP of layer", range(subject.loaded.model.cfg.n_layers), default
        )
    one = neurons(subject, layer, asked.position, asked.measure, TOP_NEURONS)
    panels.outcome(
        subject,
        one.check,
        "The neurons and the MLP's biases sum to its share.",
        "An intervention on what the MLP writes acts behind this split: neurons show what their "
        "activations would have written.",
    )
    top = one.table.iloc[0]
    drawn = Chart(
        kind="bars",
        table="neurons",
        x="neuron",
        value="attribution",
        value_label=SHARE,
        signed=True,
        title=f"Neurons of layer {layer} with the largest shares",
        alt=f"The {len(one.table)} neurons of layer {layer} that add most, either sign, "
        f"{asked.at}. First {top['neuron']}, {top['attribution']:+.3g}, with activation "
        f"{top['activation']:.3g}.",
    )
    code = script(
        subject,
        "from analyses.attribution.direct_tables import neurons_table\n\n"
        f"table = neurons_table(model, {layer}, {asked.position}, {asked.written}, {TOP_NEURONS}, "
        "**inputs).table",
    )
    figures.chart(drawn, one.table, "attribution/neurons", height=360, code=code)
    if subject.loaded.model.cfg.num_experts is not None:
        return
    with middle:
        options = one.table["neuron"].tolist()
        neuron = choices.choice("neuron", "Tokens of neuron", options, options[0])
    panels.tokens_of(subject, neuron, asked.position, "attribution/neuron-tokens")
