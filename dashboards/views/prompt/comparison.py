"""The prompt and the second prompt side by side, position by position."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analyses.predictions.next_tokens import aligned_texts
from dashboards.drawing import figures
from dashboards.page.script import preamble
from dashboards.page.subject import Subject
from dashboards.readings.predictions import compared, followed, kind
from interp.charts import Chart

_ALIGNED = 'table["token"] = aligned_texts(table["first_token"], table["second_token"])\n'
_PROMPTS = {"first": "the prompt", "second": "the second prompt"}


def draw(subject: Subject) -> None:
    """Draw both, where a second prompt was typed."""
    if subject.other is None:
        return
    st.subheader("The two prompts")
    table = compared(subject)
    longer = max(len(subject.predicts.tokens), len(subject.with_other().predicts.tokens))
    if len(table) < longer:
        st.caption(
            f"The prompts are of unlike length: compared are the {len(table)} positions that both "
            "have, counted from the start."
        )
    code = _code(subject)
    texts = aligned_texts(table["first_token"].tolist(), table["second_token"].tolist())
    left, right = st.columns(2)
    is_next = kind(subject) == "next"
    with left:
        if is_next and len(table) > 1:
            _surprise(table, texts, code)
    with right:
        _divergence(table, texts, code, "behind" if is_next else "at")
    _answers(subject, len(table), texts)
    figures.table(table, "prompt/table/comparison", "two-prompts", code)


def _surprise(table: pd.DataFrame, texts: list[str], code: str) -> None:
    tidy = table.assign(token=texts)[1:].melt(
        ["position", "token"], ["first_surprise", "second_surprise"], "prompt", "surprise"
    )
    tidy = tidy.replace(
        {"prompt": dict(zip(("first_surprise", "second_surprise"), _PROMPTS.values(), strict=True))}
    )
    drawn = Chart(
        kind="line",
        table="surprise",
        x="position",
        x_text="token",
        x_label="token",
        y="surprise",
        y_label="surprise (nats)",
        color="prompt",
        title="Surprise of each token",
        alt=(
            f"Surprise of each token: {table['first_surprise'].mean():.3f} nats on average in the "
            f"prompt, {table['second_surprise'].mean():.3f} in the second."
        ),
    )
    body = (
        f"{_ALIGNED}table = table[1:].melt(\n"
        '    ["position", "token"],\n    ["first_surprise", "second_surprise"],\n'
        '    "prompt",\n    "surprise",\n)\n'
        'table = table.replace({"prompt": {"first_surprise": "the prompt", '
        '"second_surprise": "the second prompt"}})\n'
    )
    figures.chart(drawn, tidy, "prompt/figure/two-surprises", height=340, code=code + body)


def _divergence(table: pd.DataFrame, texts: list[str], code: str, where: str) -> None:
    most = table.iloc[int(table["kl"].argmax())]
    drawn = Chart(
        kind="bars",
        table="kl",
        x="position",
        x_text="token",
        x_label="token",
        value="kl",
        value_label="KL (nats)",
        title=f"How far apart the predictions {where} each token are",
        alt=(
            "Kullback–Leibler divergence of the second prompt's prediction from the first's: "
            f"{table['kl'].mean():.3g} nats on average, most at position {most['position']}, "
            f"{most['kl']:.3g}."
        ),
    )
    figures.chart(
        drawn,
        table.assign(token=texts),
        "prompt/figure/divergence",
        height=340,
        code=code + _ALIGNED,
    )


def _answers(subject: Subject, n: int, texts: list[str]) -> None:
    """The answer's probability in both prompts."""
    if subject.answer is None:
        return
    where = "after" if kind(subject) == "next" else "at"
    rows = [
        followed(each, (subject.answer,)).head(n).assign(prompt=name, at_token=texts)
        for each, name in zip((subject, subject.with_other()), _PROMPTS.values(), strict=True)
    ]
    tidy = pd.concat(rows, ignore_index=True)
    last = tidy[tidy["position"] == n - 1]["probability"].tolist()
    drawn = Chart(
        kind="line",
        table="answer",
        x="position",
        x_text="at_token",
        x_label=f"{where} the token",
        y="probability",
        color="prompt",
        probability=True,
        title="Probability of the answer",
        alt=(
            f"Probability of the answer {where} each token: {last[0]:.3g} {where} the last of the "
            f"prompt, {last[1]:.3g} of the second."
        ),
    )
    figures.chart(
        drawn, tidy, "prompt/figure/two-answers", height=320, code=_answer_code(subject, n)
    )


def _code(subject: Subject) -> str:
    plan = ", plan" if subject.plan else ""
    return (
        f"{preamble(subject)}\n"
        "from analyses.predictions.next_tokens import aligned_texts, comparison_table\n\n"
        'second = {**inputs, "input": other_tokens}\n'
        "with torch.no_grad():\n"
        f"    table = comparison_table(model, inputs, second{plan})\n"
    )


def _answer_code(subject: Subject, n: int) -> str:
    context = "torch.no_grad()" + (", applied(model, plan, **each)" if subject.plan else "")
    tokens = "tokens" if subject.decoder is None else "decoder_tokens"
    others = "other_tokens" if subject.decoder is None else "decoder_tokens"
    return (
        f"{preamble(subject)}\n"
        "import pandas as pd\n\n"
        "from analyses.predictions.next_tokens import aligned_texts, followed_table\n"
        "from analyses.inputs.prompts import token_texts\n\n"
        f"first, second = (token_texts(model, ids[0]) for ids in ({tokens}, {others}))\n"
        f"texts = aligned_texts(first[:{n}], second[:{n}])\n"
        "rows = []\n"
        'for each, name in ((inputs, "the prompt"), '
        '({**inputs, "input": other_tokens}, "the second prompt")):\n'
        f"    with {context}:\n"
        f"        logits = model(**each)[0, :{n}]\n"
        "    found = followed_table(model, logits, texts, [answer])\n"
        "    rows.append(found.assign(prompt=name))\n"
        "table = pd.concat(rows, ignore_index=True)\n"
    )
