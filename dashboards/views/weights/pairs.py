"""One head in tokens: what it moves to what, what it looks for, and both together."""

import streamlit as st

from analyses.inputs.targets import resolve_input
from dashboards.drawing import figures
from dashboards.drawing.wording import plain
from dashboards.page.address import Choices
from dashboards.page.model_alone import script
from dashboards.page.subject import Subject
from dashboards.readings import weights
from dashboards.readings.weights import OneHead
from dashboards.views.weights import controls
from interp import InputError
from interp.charts import Chart
from interp.charts.tokens import visible

NAMES = ("pairs_of", "layer", "head", "k", "of_token", "all_pairs", "effective", "distance")
MOST_UNASKED = 200_000_000  # pairs of tokens that are looked through without being asked
_PAIRS_OF = {"self": "Decoder’s self-attention", "cross": "Decoder’s cross-attention"}


def show(subject: Subject, choices: Choices) -> None:
    """Draw the view."""
    model = subject.loaded.model
    cfg = model.cfg
    places = st.columns(4)
    layer, head = controls.head(choices, cfg.n_layers, cfg.n_heads, places)
    with places[2]:
        k = choices.number("k", "Pairs in each list", 8, 1, 50, 1)
    with places[3]:
        typed = choices.line(
            "of_token",
            "Of one token",
            help="The source that is attended to, and the destination that looks: a token, or #7 "
            "for id 7. Empty: of all tokens.",
        )
    more = st.columns(4)
    cross = False
    if subject.loaded.is_seq2seq:
        with more[0]:
            cross = (
                choices.choice(
                    "pairs_of", "Heads of", list(_PAIRS_OF), "self", show=_PAIRS_OF.__getitem__
                )
                == "cross"
            )
    distance = 0
    if model.main_stack.pos_embed.rotates and not cross:
        with more[1]:
            distance = choices.number(
                "distance",
                "Tokens back",
                0,
                0,
                cfg.n_ctx - 1,
                1,
                help="Rotary positions: how far behind the destination the source lies.",
            )
    effective = controls.effective(choices, model)
    token = resolve_input(model, typed) if typed else None
    one = OneHead(layer, head, cross, effective, distance)
    if cross:
        st.caption(
            "Source tokens are read as the encoder’s stream carries them past all its layers: what "
            "its heads and MLPs make of them is left out."
        )
    n_pairs = cfg.d_vocab * max(cfg.d_vocab, cfg.d_vocab_out)
    every = n_pairs <= MOST_UNASKED or choices.toggle(
        "all_pairs",
        f"Look through all {n_pairs:,} pairs of tokens",
        False,
        help="May take a minute or more; other pages of this model wait meanwhile.",
    )
    if not every and token is None:
        st.info("Type a token to see what this head does with it, or look through all pairs.")
        return
    _sought(subject, one, k, token)
    if cfg.head != "lm":
        st.info("No OV pairs: logits of this model are not of tokens, linear in its stream.")
        return
    _moved(subject, one, k, token)
    if every and not cross:
        _trigrams(subject, one, k)


def _moved(subject: Subject, one: OneHead, k: int, token: int | None) -> None:
    table = weights.moved(subject, one, k, token)
    first, last = table.iloc[0], table.iloc[-1]
    of = "" if token is None else f" of “{visible(first['source'])}”"
    drawn = Chart(
        kind="bars",
        table="moved",
        x="order",
        x_text="pair",
        x_label="token attended to → output",
        value="logit",
        value_label="logit, less the mean over outputs",
        signed=True,
        title=f"What {one.name} moves{of}: entries of its full OV circuit",
        alt=(
            f"The largest and smallest entries of {one.name}’s full OV circuit{of}. Attending to "
            f"“{visible(first['source'])}” adds {first['logit']:.3g} to the logit of "
            f"“{visible(first['output'])}”; attending to “{visible(last['source'])}” adds "
            f"{last['logit']:.3g} to that of “{visible(last['output'])}”."
        ),
    )
    st.subheader(f"What {one.name} moves")
    st.caption("The largest and the smallest entries of its full OV circuit.")
    code = _code(subject, "moved_table", one.ov_code, k, token)
    key = f"weights/moved/{one.name}"
    figures.chart(drawn, table, key, height=380, titled=False, code=code)


def _sought(subject: Subject, one: OneHead, k: int, token: int | None) -> None:
    st.subheader(f"What {one.name} looks for")
    try:
        table = weights.sought(subject, one, k, token)
    except InputError as fault:  # a head may have an OV circuit and no QK circuit
        st.info(plain(fault))
        return
    first = table.iloc[0]
    back = f", {one.distance} tokens back" if one.distance else ""
    drawn = Chart(
        kind="bars",
        table="sought",
        x="order",
        x_text="pair",
        x_label="destination ← source",
        value="score",
        value_label="score, less the mean over sources",
        signed=True,
        title=f"What {one.name} looks for{back}: entries of its full QK circuit",
        alt=(
            f"The {len(table)} largest entries of {one.name}’s full QK circuit{back}: a "
            f"destination that holds “{visible(first['destination'])}” likes "
            f"“{visible(first['source'])}” most, by {first['score']:.3g} over the mean source."
        ),
    )
    st.caption(f"The largest entries of its full QK circuit{back}.")
    code = _code(subject, "sought_table", one.qk_code, k, token)
    key = f"weights/sought/{one.name}"
    figures.chart(drawn, table, key, height=380, titled=False, code=code)


def _trigrams(subject: Subject, one: OneHead, k: int) -> None:
    st.subheader("Skip-trigrams")
    st.caption(
        "source … destination → output, of all tokens: the product of how much the destination "
        "likes the source and how much attending to it moves the output’s logit, each beyond its "
        "mean."
    )
    table = weights.trigrams(subject, one, k)
    if table.empty:
        st.info("No triple of tokens moves anything.")
        return
    code = script(
        subject.loaded,
        "from analyses.weights.tables import Texts, trigrams_table",
        f"table = trigrams_table(\n    model, [({one.layer}, {one.head})], {k}, {one.effective}, "
        f"{one.distance}, Texts(model)\n)",
    )
    figures.table(table, f"weights/trigrams/{one.name}", f"skip-trigrams-{one.name}", code=code)


def _code(subject: Subject, maker: str, circuit: str, k: int, token: int | None) -> str:
    name = circuit.split("(")[0]
    return script(
        subject.loaded,
        f"from analyses.weights.pairs import {maker}\n"
        "from analyses.weights.tables import Texts\n"
        f"from interp.weight_circuits import {name}",
        f"circuit = {circuit}\ntable = {maker}(circuit, {k}, Texts(model), token={token})",
    )
