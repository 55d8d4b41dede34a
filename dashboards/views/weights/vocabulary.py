"""What tokens write as inputs and read as outputs, and what the direct path makes of both."""

import streamlit as st

from analyses.inputs.targets import resolve_input
from dashboards.drawing import figures
from dashboards.drawing.wording import plain
from dashboards.page.address import Choices
from dashboards.page.model_alone import script
from dashboards.page.subject import Subject
from dashboards.readings import weights
from dashboards.views.weights import controls
from dashboards.views.weights.pairs import MOST_UNASKED
from interp import InputError
from interp.charts import Chart
from interp.charts.tokens import visible

NAMES = ("against", "k", "token")
MOST_DRAWN = 5_000  # tokens in one figure
_AGAINST = {
    "unembedding_norm": ("Norm of the unembedding", "norm of what the token’s logit reads"),
    "cosine": ("Cosine with the unembedding", "cosine of both vectors"),
}


def show(subject: Subject, choices: Choices) -> None:
    """Draw the view."""
    cfg = subject.loaded.model.cfg
    table = weights.vocabulary(subject)
    if table["cosine"].isna().all():
        st.info(
            "Outputs of this model are classes, not tokens: there is no unembedding of a token."
        )
        figures.table(
            table[["token_id", "token", "embedding_norm"]], "weights/vocabulary", "vocabulary"
        )
        return
    with st.columns([2, 3])[0]:
        against = choices.choice(
            "against", "Embedding’s norm against", list(_AGAINST), "unembedding_norm",
            show=lambda name: _AGAINST[name][0],
        )  # fmt: skip
    step = -(-len(table) // MOST_DRAWN)
    known = table.dropna().iloc[::step].reset_index(drop=True)
    far = known.iloc[int(known[against].argmax())]
    low = known.iloc[int(known[against].argmin())]
    drawn = Chart(
        kind="points",
        table="vocabulary",
        x="embedding_norm",
        y=against,
        x_label="norm of the embedding",
        y_label=_AGAINST[against][1],
        signed=against == "cosine",
        title=f"{_AGAINST[against][0]} beside the norm of the embedding, by token",
        alt=(
            f"{len(known)} tokens{f', one in {step} of all' if step > 1 else ''}: the norm of what "
            f"each writes as an input against {_AGAINST[against][1]}. Largest: "
            f"“{visible(far['token'])}” with {far[against]:.3g}; smallest: "
            f"“{visible(low['token'])}” with {low[against]:.3g}."
        ),
    )
    code = script(
        subject.loaded,
        "from analyses.weights.tables import Texts\n"
        "from analyses.weights.vocabulary import vocabulary_table",
        "table = vocabulary_table(model, Texts(model))\n"
        f"table = table.dropna().iloc[::{step}].reset_index(drop=True)",
    )
    left, right = st.columns([3, 2])
    with left:
        figures.chart(
            drawn,
            known,
            f"weights/vocabulary/{against}",
            height=420,
            code=code,
            adjust=lambda figure: controls.name_points(figure, known["token"]),
        )
    with right:
        st.html('<p class="figure-title">All tokens</p>')
        figures.table(table, "weights/vocabulary/table", "vocabulary")
    if cfg.head == "lm":
        _direct(subject, choices)


def _direct(subject: Subject, choices: Choices) -> None:
    st.subheader("The direct path")
    st.caption("What a token adds to each logit past all layers, less the mean over outputs.")
    left, right, _ = st.columns([2, 1, 2])
    with left:
        asked = choices.line(
            "token", "Of one token", help="A token, or #7 for id 7; empty: the strongest of all."
        )
    with right:
        k = choices.number("k", "Pairs", 8, 1, 50, 1)
    cfg = subject.loaded.model.cfg
    if not asked and cfg.d_vocab * cfg.d_vocab_out > MOST_UNASKED:
        st.info("Type a token to see what follows it: all pairs are too many to look through.")
        return
    try:
        token = resolve_input(subject.loaded.model, asked) if asked else None
        found = weights.bigrams(subject, k, token)
    except InputError as fault:  # the rest of the page stands
        st.error(plain(fault))
        return
    table = found.assign(pair=found["token"] + "→" + found["output"])
    top = table.iloc[0]
    drawn = Chart(
        kind="bars",
        table="bigrams",
        x="rank",
        x_text="pair",
        x_label="token → next",
        value="logit",
        value_label="logit, less the mean over outputs",
        signed=True,
        title="The strongest pairs of the direct path"
        if token is None
        else f"What the direct path puts after “{visible(top['token'])}”",
        alt=(
            f"The {len(table)} largest entries of W_E W_U{'' if token is None else ' of one row'}: "
            f"first “{visible(top['token'])}” → “{visible(top['output'])}” with "
            f"{top['logit']:.3g}."
        ),
    )
    code = script(
        subject.loaded,
        "from analyses.weights.tables import Texts, bigrams_table",
        f"table = bigrams_table(model, {k}, {token}, Texts(model))\n"
        "table['pair'] = table['token'] + '→' + table['output']",
    )
    figures.chart(drawn, table, "weights/bigrams", height=400, code=code)
