"""All heads by one measure, and the eigenvalues and singular values of one."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from analyses.weights.sizes import Where, effective_dimensions
from dashboards.drawing import figures
from dashboards.page.address import Choices
from dashboards.page.model_alone import script
from dashboards.page.subject import Subject
from dashboards.readings import weights
from dashboards.views.weights import controls
from interp.charts import Chart

NAMES = ("heads_of", "layer", "head", "measure", "effective")


@dataclass(frozen=True)
class Measure:
    """A number that each head has.

    Attributes:
        title: What it is, in a few words.
        told: What its size says, in a sentence.
        unit: Of the colour scale.
        of: Which reading it comes from: `copying`, `ov` or `qk`.
        signed: Whether its zero is the middle of the scale.
        limits: The ends of the scale, where these are the same for all models.
    """

    title: str
    told: str
    unit: str
    of: str
    signed: bool = False
    limits: tuple[float, float] | None = None


MEASURES = {
    "copying_score": Measure(
        "Copying score", "1 raises the logit of the token attended to, −1 lowers it",
        "Σ Re λ / Σ |λ|", "copying", signed=True, limits=(-1, 1),
    ),
    "eigenvalue_share": Measure(
        "Share of the eigenvalues", "near 0 the head moves tokens to other tokens, and its copying "
        "score says little", "Σ |λ| / Σ σ", "copying", limits=(0, 1),
    ),
    "own_logit": Measure(
        "Own logit", "what attending to a token adds to that token’s logit, mean over tokens",
        "logit", "copying", signed=True,
    ),
    "contrast": Measure(
        "Contrast of the diagonal", "how far a token’s own logit stands out from all others",
        "standard deviations", "copying", signed=True,
    ),
    "norm": Measure(
        "Norm of the full OV circuit", "how much it moves all logits together",
        "Frobenius norm (logits)", "copying",
    ),
    "ov_norm": Measure(
        "Norm of W_V W_O", "how much it writes into the residual stream", "Frobenius norm", "ov",
    ),
    "ov_dimensions": Measure(
        "Effective rank of W_V W_O", "how many dimensions it writes to evenly",
        "(Σσ²)² / Σσ⁴", "ov",
    ),
    "qk_norm": Measure(
        "Norm of W_Q W_Kᵀ", "how far apart its scores can lie", "Frobenius norm (scores)", "qk",
    ),
    "qk_dimensions": Measure(
        "Effective rank of W_Q W_Kᵀ", "in how many dimensions it compares", "(Σσ²)² / Σσ⁴", "qk",
    ),
}  # fmt: skip
_HEADS_OF: dict[Where, str] = {
    "self": "Decoder’s self-attention",
    "encoder": "Encoder’s self-attention",
    "cross": "Decoder’s cross-attention",
}


def show(subject: Subject, choices: Choices) -> None:
    """Draw the view."""
    model = subject.loaded.model
    places = st.columns(4)
    where: Where = "self"
    if subject.loaded.is_seq2seq:
        with places[3]:
            where = choices.choice(
                "heads_of", "Heads of", list(_HEADS_OF), "self", show=_HEADS_OF.__getitem__
            )
    offered = [
        name
        for name, each in MEASURES.items()
        if each.of == "ov" or (where == "self" and (each.of == "qk" or model.cfg.head == "lm"))
    ]
    with places[2]:
        default = offered[0]
        asked = choices.choice(
            "measure", "Measure", offered, default, show=lambda name: MEASURES[name].title
        )
    n_layers = len(model.encoder.blocks) if where == "encoder" else model.cfg.n_layers
    layer, head = controls.head(choices, n_layers, model.cfg.n_heads, places)
    effective = controls.effective(choices, model)
    _map(subject, choices, asked, where, effective, (layer, head))
    _head(subject, layer, head, where, effective)


def _map(
    subject: Subject,
    choices: Choices,
    name: str,
    where: Where,
    effective: bool,
    chosen: tuple[int, int],
) -> None:
    measure = MEASURES[name]
    if measure.of == "copying":
        table = weights.copying(subject, effective).heads
        code = copying_code(subject, effective, "table = heads_table(scores, n)")
    elif measure.of == "ov":
        table = weights.ov_sizes(subject, where)
        code = script(
            subject.loaded,
            "from analyses.weights.sizes import ov_sizes_table",
            f"table = ov_sizes_table(model, {where!r})",
        )
    else:
        table = weights.qk_sizes(subject)
        code = script(
            subject.loaded,
            "from analyses.weights.sizes import qk_sizes_table",
            "table = qk_sizes_table(model)",
        )
    ordered = table.sort_values(name, ascending=False)
    most, least = ordered.iloc[0], ordered.iloc[-1]
    drawn = Chart(
        kind="heatmap",
        table="heads",
        x="head",
        y="layer",
        value=name,
        value_label=measure.unit,
        signed=measure.signed,
        limits=measure.limits or _from_zero(table[name], measure.signed),
        title=f"{measure.title} of every head",
        alt=(
            f"{measure.title} of {len(table)} heads, layers down, heads across: {measure.told}. "
            f"Largest {most['component']} with {most[name]:.3g}, smallest {least['component']} "
            f"with {least[name]:.3g}."
        ),
    )
    st.subheader(f"{measure.title} of every head", help="Click a cell to read that head below.")
    key = f"weights/map/{name}/{where}/{chosen[0]}/{chosen[1]}"
    figures.chart(
        drawn,
        table,
        key,
        titled=False,
        code=code,
        chosen={"layer": chosen[0], "head": chosen[1]},
        on_select=lambda: controls.pick_head(choices, key),
        selection_mode="points",
    )


def _from_zero(values: pd.Series, signed: bool) -> tuple[float, float] | None:
    """A scale on which twice the number is twice as far from white."""
    most = float(values.max())
    return None if signed or not most > 0 else (0.0, most)


def _head(subject: Subject, layer: int, head: int, where: Where, effective: bool) -> None:
    name = f"L{layer}H{head}"
    st.subheader(f"Head {name}")
    left, right = st.columns(2)
    if where == "self" and subject.loaded.model.cfg.head == "lm":
        with right:
            _eigenvalues(subject, name, layer, head, effective)
    else:
        right.info(_no_eigenvalues(subject, where))
    with left:
        _singular_values(subject, name, layer, head, where)


def _no_eigenvalues(subject: Subject, where: Where) -> str:
    if where == "self":
        return "Logits of this model are not of tokens, linear in its residual stream."
    read = "tokens of the source" if where == "encoder" else "what the whole encoder writes"
    return (
        f"These heads read {read}, and logits are of the target’s tokens: no circuit from tokens "
        "to the same tokens, and so no eigenvalues."
    )


def _eigenvalues(subject: Subject, name: str, layer: int, head: int, effective: bool) -> None:
    found = weights.copying(subject, effective)
    values = found.eigenvalues
    mine = values[values["component"] == name].reset_index(drop=True)
    of = found.heads[found.heads["component"] == name].iloc[0]
    positive = positive_share(mine)
    drawn = Chart(
        kind="points",
        table="eigenvalues",
        x="real",
        y="imaginary",
        x_label="real part (logits)",
        y_label="imaginary part",
        vectors=True,
        title=f"Eigenvalues of the full OV circuit of {name}",
        alt=(
            f"The {len(mine)} eigenvalues of {name}’s full OV circuit as vectors in the complex "
            f"plane. {positive:.0%} of the real parts’ mass is positive (copying); copying score "
            f"{of['copying_score']:.3f}; eigenvalues are {of['eigenvalue_share']:.0%} of the "
            "singular values’ mass."
        ),
    )
    body = f"table = eigenvalues_table(scores, [({layer}, {head})])"
    code = copying_code(subject, effective, body)
    figures.chart(drawn, mine, f"weights/eigenvalues/{name}", height=420, code=code)


def _singular_values(subject: Subject, name: str, layer: int, head: int, where: Where) -> None:
    import torch

    table = weights.singular_values(subject, layer, head, where)
    wide = float(effective_dimensions(torch.tensor(table["singular_value"].to_numpy())))
    drawn = Chart(
        kind="line",
        table="singular-values",
        x="rank",
        y="singular_value",
        y_label="singular value",
        limits=_from_zero(1.05 * table["singular_value"], signed=False),
        title=f"Singular values of W_V W_O of {name}",
        alt=(
            f"The {len(table)} singular values of what {name} writes, the largest first: effective "
            f"rank {wide:.1f} of {len(table)}; the largest holds {table['share'].iloc[0]:.0%} of "
            "the squared norm."
        ),
    )
    code = script(
        subject.loaded,
        "from analyses.weights.sizes import singular_values_table",
        f"table = singular_values_table(model, {layer}, {head}, {where!r})",
    )
    figures.chart(drawn, table, f"weights/singular/{where}/{name}", height=420, code=code)


def positive_share(eigenvalues: pd.DataFrame) -> float:
    """Σ max(Re λ, 0) / Σ |Re λ|; 0.5 where all are zero."""
    real = eigenvalues["real"]
    mass = float(real.abs().sum())
    return float(real.clip(lower=0).sum()) / mass if mass else 0.5


def copying_code(subject: Subject, effective: bool, body: str) -> str:
    """Python that scores all heads, then makes a table of `scores`."""
    cfg = subject.loaded.model.cfg
    tokens: Any = "None" if cfg.d_vocab == cfg.d_vocab_out else "range(n)"
    table = body.split("= ")[1].split("(")[0]
    return script(
        subject.loaded,
        f"from analyses.weights.tables import {table}\n"
        "from interp.weight_circuits import copying_scores",
        "n = min(model.cfg.d_vocab, model.cfg.d_vocab_out)\n"
        f"scores = copying_scores(model, {tokens}, effective={effective}, less_mean=True)\n{body}",
    )
