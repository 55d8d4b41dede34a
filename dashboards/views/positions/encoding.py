"""An encoding of positions by itself: vectors, angles or biases, whichever the model has."""

import math
from typing import Any

import streamlit as st

from analyses.positions.encoding import Part
from analyses.positions.length_tables import encoding_name
from dashboards.drawing import figures
from dashboards.drawing.wording import plain
from dashboards.page.address import Choices
from dashboards.page.model_alone import script
from dashboards.page.subject import Subject
from dashboards.readings import positions
from interp.charts import Chart

NAMES = ("n", "part", "layer")
MOST_POSITIONS = 192  # drawn at once
_USUAL = 64
_LABELS = 24  # along an axis
_PARTS: dict[Part, str] = {"decoder": "Decoder", "encoder": "Encoder"}


def show(subject: Subject, choices: Choices) -> None:
    """Draw the view."""
    model = subject.loaded.model
    cfg = model.cfg
    kind = encoding_name(model)
    own = model.main_stack.pos_embed
    vectors = own.adds_embedding or own.adds_to_queries_and_keys
    if not (vectors or own.rotates or own.biases_scores):
        st.info(
            "This model has no encoding of positions: what it knows of them comes from who sees "
            "whom. See what probes read of it."
        )
        return
    st.caption(plain(_about(kind, vectors, own.rotates)))
    left, right, _ = st.columns([1, 1, 2])
    most = min(cfg.n_ctx, MOST_POSITIONS)
    with left:
        n = choices.number("n", "Positions", min(most, _USUAL), 4, most, 1) if most > 4 else most
    part: Part = None
    with right:
        if subject.loaded.is_seq2seq and not own.rotates:
            part = choices.choice("part", "Of", list(_PARTS), "decoder", show=_PARTS.__getitem__)
        elif own.rotates:
            layer = choices.choice("layer", "Layer", range(cfg.n_layers), 0)
    if vectors:
        one, other = st.columns([3, 2])
        with one:
            _cosines(subject, n, part)
        with other:
            _waves(subject, n, part)
            _paths(subject, n, part)
    if own.rotates:
        _angles(subject, n, layer)
    if own.biases_scores:
        _biases(subject, n, part)


def _about(kind: str, vectors: bool, rotates: bool) -> str:
    if vectors:
        return (
            f"Positions of this model are vectors ({kind}). What is alike here is hard to tell "
            "apart for a head; a wave of one period says where within it a token stands."
        )
    if rotates:
        return (
            "Queries and keys are turned by position (rotary), each band of dimensions at its own "
            "speed: a query and a key that agree without a turn add |q||k| cos(ω d) at distance d."
        )
    return (
        f"Positions are a bias of the scores ({kind}): a curve by distance for each head, whatever "
        "the tokens."
    )


def _cosines(subject: Subject, n: int, part: Part) -> None:
    table = positions.cosines(subject, n, part)
    next_to = table[table["other"] == table["position"] + 1]["cosine"]
    drawn = Chart(
        kind="heatmap",
        table="cosines",
        x="other",
        x_label="position",
        y="position",
        value="cosine",
        signed=True,
        limits=(-1, 1),
        title="How alike positions are: cosines of their vectors",
        alt=(
            f"Cosine of the vectors of every two of {n} positions. Neighbours have "
            f"{next_to.mean():.2f} on average ({next_to.min():.2f} … {next_to.max():.2f}). Bands "
            "along the diagonal: alike by distance alone."
        ),
    )
    code = _code(subject, f"cosines_table(model, {n}, {part!r})")
    figures.chart(drawn, table, f"positions/cosines/{part}", height=600, code=code, adjust=_square)


def _waves(subject: Subject, n: int, part: Part) -> None:
    table = positions.waves(subject, n, part)
    most = table.iloc[int(table["share"].argmax())]
    drawn = Chart(
        kind="line",
        table="waves",
        x="turns",
        x_label=f"turns over {n} positions",
        y="share",
        y_label="share of the power",
        title="Fourier spectrum, a straight line taken out",
        alt=(
            f"The share of each frequency in how the vectors of {n} positions differ. Most at "
            f"{most['turns']:.0f} turns (a period of {most['period']:.1f} positions): "
            f"{most['share']:.0%}; {table['share'].sum():.0%} in waves together, the rest in the "
            "line."
        ),
    )
    code = _code(subject, f"waves_table(model, {n}, {part!r})")
    figures.chart(drawn, table, f"positions/waves/{part}", height=270, code=code)


def _paths(subject: Subject, n: int, part: Part) -> None:
    table = positions.paths(subject, n, part)
    drawn = Chart(
        kind="line",
        table="paths",
        x="position",
        y="score",
        color="component",
        title="Principal components of the vectors",
        alt=(
            "The scores of the leading principal components of the vectors by position, with each "
            f"one’s share of the variance: {', '.join(table['component'].unique())}."
        ),
    )
    code = _code(subject, f"paths_table(model, {n}, {part!r})")
    figures.chart(drawn, table, f"positions/paths/{part}", height=270, code=code)


def _angles(subject: Subject, n: int, layer: int) -> None:
    table = positions.angles(subject, n, layer)
    waves = table.drop_duplicates("band")["wavelength"]
    turning = waves[waves.map(math.isfinite)]
    still = len(waves) - len(turning)
    drawn = Chart(
        kind="heatmap",
        table="angles",
        x="distance",
        x_label="tokens back",
        y="band",
        y_text="label",
        y_label="wavelength in tokens",
        value="cosine",
        value_label="cos(ω d)",
        signed=True,
        limits=(-1, 1),
        title=f"Rotary angles of layer {layer} by band and distance",
        alt=(
            f"The cosine of the angle that each of {len(waves)} bands has turned at each distance, "
            f"fast bands above: wavelengths from {turning.min():,.3g} to {turning.max():,.0f} "
            f"tokens{f', and {still} band that does not turn' if still else ''}. A band that "
            "hardly changes over these distances can compare contents; a fast one tells neighbours "
            "apart."
        ),
    )
    code = _code(subject, f"angles_table(model, {n}, {layer})")
    figures.chart(drawn, table, "positions/angles", height=460, code=code, adjust=_thinned)


def _biases(subject: Subject, n: int, part: Part) -> None:
    table = positions.biases(subject, n, part)
    lowest = table.iloc[int(table["score"].argmin())]
    drawn = Chart(
        kind="line",
        table="bias-curves",
        x="offset",
        x_label="tokens back",
        y="score",
        y_label="added to the score (nats)",
        color="label",
        title="What the encoding adds to the scores, by distance",
        alt=(
            f"For each of {table['head'].nunique()} heads, what positions add to a score by how "
            f"far back the source lies; the same in all layers. The lowest is "
            f"{lowest['score']:.3g}, of {lowest['label']} at {lowest['offset']} tokens."
        ),
    )
    code = script(
        subject.loaded,
        "from analyses.positions.attention_tables import bias_curves_table\n"
        "from interp.position_effects import bias_curves",
        f"table = bias_curves_table(bias_curves(model, {n}, {part!r}))",
    )
    figures.chart(drawn, table, f"positions/biases/{part}", height=460, code=code)


def _square(figure: Any) -> None:
    """Cells as high as wide, and few labels."""
    figure.update_xaxes(constrain="domain")
    figure.update_yaxes(scaleanchor="x", constrain="domain")
    _thinned(figure)


def _thinned(figure: Any) -> None:
    """As many labels along each axis as stand apart."""
    for axis in (*figure.select_xaxes(), *figure.select_yaxes()):
        step = -(-len(axis.tickvals) // _LABELS)
        axis.update(tickvals=axis.tickvals[::step], ticktext=axis.ticktext[::step])


def _code(subject: Subject, call: str) -> str:
    maker = call.split("(")[0]
    return script(
        subject.loaded, f"from analyses.positions.encoding import {maker}", f"table = {call}"
    )
