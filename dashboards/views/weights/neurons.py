"""The neurons of a layer by size and direction, and one of them in tokens."""

from typing import Any

import pandas as pd
import streamlit as st

from dashboards.drawing import figures
from dashboards.drawing.theme import is_dark
from dashboards.page.address import Choices
from dashboards.page.model_alone import script
from dashboards.page.subject import Subject
from dashboards.readings import weights
from dashboards.views.weights import controls
from interp.charts import Chart
from interp.charts.palette import theme
from interp.charts.tokens import visible
from interp.weight_circuits.directions import Stack

NAMES = ("neurons_of", "layer", "neuron", "k", "effective")
MOST_DRAWN = 8_000  # neurons in one figure
_FIRST = ["neuron", "strength", "cosine", "component"]  # columns of the table, the last left out
_STACKS: dict[Stack, str] = {"decoder": "Decoder", "encoder": "Encoder"}


def show(subject: Subject, choices: Choices) -> None:
    """Draw the view."""
    model = subject.loaded.model
    cfg = model.cfg
    if cfg.attn_only:
        st.info("This model has no neurons: its layers are attention alone.")
        return
    places = st.columns(4)
    stack: Stack = ""
    if subject.loaded.is_seq2seq:
        with places[3]:
            stack = choices.choice(
                "neurons_of", "Neurons of", list(_STACKS), "decoder", show=_STACKS.__getitem__
            )
    n_layers = len(model.encoder.blocks) if stack == "encoder" else cfg.n_layers
    with places[0]:
        layer = choices.choice("layer", "Layer", range(n_layers), 0)
    sizes = weights.neuron_sizes(subject, layer, stack)
    strongest = int(sizes["strength"].argmax())
    with places[1]:
        neuron = choices.number("neuron", "Neuron", strongest, 0, len(sizes) - 1, 1)
    with places[2]:
        k = choices.number("k", "Tokens in each list", 8, 1, 50, 1)
    effective = controls.effective(choices, model)
    _sizes(subject, sizes, layer, stack, neuron)
    st.subheader(f"Neuron {sizes['component'].iloc[neuron]}")
    if stack == "encoder":
        st.info("What an encoder’s neuron writes has no straight path to the logits of tokens.")
    elif cfg.head != "lm":
        st.info("Logits of this model are not linear in its residual stream.")
    else:
        _tokens(subject, sizes.iloc[neuron], layer, neuron, k, effective)


def _sizes(subject: Subject, sizes: pd.DataFrame, layer: int, stack: Stack, neuron: int) -> None:
    most = sizes.iloc[int(sizes["strength"].argmax())]
    drawn_rows = sizes.nlargest(MOST_DRAWN, "strength").sort_index().reset_index(drop=True)
    left_out = len(sizes) - len(drawn_rows)
    drawn = Chart(
        kind="points",
        table="neurons",
        x="cosine",
        y="strength",
        x_label="cosine of W_in and W_out",
        y_label="‖W_in‖ · ‖W_out‖",
        title=f"Neurons of layer {layer}: what they write beside what they read",
        alt=(
            f"The cosine of what each of {len(drawn_rows)} neurons of layer {layer} reads and "
            "writes, against the product of both norms. Right of zero a neuron adds more of what "
            f"it reads; left of it, it takes that off. The strongest is {most['component']} "
            f"(strength {most['strength']:.3g}, cosine {most['cosine']:.2f})."
            + (f" The {left_out} weakest are not drawn." if left_out else "")
        ),
    )
    body = f"table = neuron_sizes_table(model, {layer}, {stack!r})"
    code = script(
        subject.loaded,
        "from analyses.weights.neurons import neuron_sizes_table",
        body
        + f"\ntable = table.nlargest({MOST_DRAWN}, 'strength').sort_index()"
        + ".reset_index(drop=True)",
    )
    left, right = st.columns([3, 2])
    with left:
        figures.chart(
            drawn,
            drawn_rows,
            f"weights/neurons/{stack}/{layer}",
            height=420,
            code=code,
            adjust=lambda figure: _mark(figure, drawn_rows, sizes.iloc[neuron]),
        )
    with right:
        st.html('<p class="figure-title">The strongest</p>')
        figures.table(
            sizes.sort_values("strength", ascending=False)[
                ["neuron", "strength", "cosine", *sizes.columns.difference(_FIRST, sort=False)]
            ],
            f"weights/neurons/table/{stack}/{layer}",
            f"neurons-L{layer}",
        )


def _mark(figure: Any, drawn: pd.DataFrame, chosen: Any) -> None:
    """Name the points, and ring the neuron that is shown below."""
    controls.name_points(figure, drawn["component"])
    figure.add_scatter(
        x=[chosen["cosine"]],
        y=[chosen["strength"]],
        mode="markers",
        marker={
            "symbol": "circle-open",
            "size": 14,
            "color": theme(is_dark()).accent,
            "line": {"width": 2.5},
        },
        hoverinfo="skip",
        showlegend=False,
    )


def _tokens(subject: Subject, of: Any, layer: int, neuron: int, k: int, effective: bool) -> None:
    table = weights.neuron_tokens(subject, layer, neuron, k, effective)
    best = {
        str(kind): visible(part.iloc[0]["token"])
        for kind, part in table.groupby("kind", sort=False)
    }
    told = ", ".join(f"{kind} “{token}”" for kind, token in best.items())
    drawn = Chart(
        kind="bars",
        table="neuron-tokens",
        x="rank",
        x_text="token",
        x_label="token",
        value="value",
        value_label="pre-activation, or logit less the mean",
        facet="kind",
        signed=True,
        title=f"What neuron {of['component']} reads and writes, in tokens",
        alt=(
            f"The {k} tokens that by themselves excite and inhibit neuron {of['component']} most, "
            f"and the outputs that it promotes and suppresses most: {told}. It writes "
            f"{of['write_norm']:.3g} for a unit of activation; cosine {of['cosine']:.2f}."
        ),
    )
    code = script(
        subject.loaded,
        "from analyses.weights.neurons import neuron_tokens_table\n"
        "from analyses.weights.tables import Texts",
        f"table = neuron_tokens_table(model, {layer}, {neuron}, {k}, {effective}, Texts(model))",
    )
    figures.chart(drawn, table, f"weights/neuron/{layer}/{neuron}", code=code)
    st.caption(
        "Excited and inhibited by: what the non-linearity gets of each token alone"
        + (", through the gate. " if "gate_norm" in of.index else ". ")
        + "Promotes and suppresses: what a unit of activation adds to each logit, less the mean."
    )
