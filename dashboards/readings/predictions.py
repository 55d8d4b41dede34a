"""What a model says about tokens: predictions, surprise, and two prompts compared."""

from dataclasses import dataclass
from typing import Literal

import pandas as pd
import streamlit as st
import torch

from analyses.predictions.continuation import continuation_table
from analyses.predictions.next_tokens import (
    comparison_table,
    followed_table,
    outputs_table,
    surprise_table,
)
from dashboards.page.subject import Subject
from dashboards.readings.base import inputs_of, reading
from interp import HookedTransformer

N_PREDICTIONS = 10  # at each position

Kind = Literal["next", "masked", "here", "class"]


def kind(subject: Subject) -> Kind:
    """What a model's outputs are about.

    `next`: at each position, the token that follows it; `masked`: the token at the position itself,
    where a mask stands for it; `here`: something at each position of a model that reads both ways;
    `class`: the whole text.
    """
    cfg = subject.loaded.model.cfg
    if cfg.classifies:
        return "class"
    if cfg.head == "mlm":
        return "masked"
    return "here" if cfg.architecture == "encoder" or cfg.attention_dir != "causal" else "next"


@dataclass(frozen=True)
class Reading:
    """What a model predicts along a prompt, and how much that surprised it.

    Attributes:
        predictions: As `analyses.predictions.next_tokens.outputs_table`; of a classifier all is
            at position 0.
        surprise: As `surprise_table`; empty where no next tokens are predicted.
    """

    predictions: pd.DataFrame
    surprise: pd.DataFrame


@reading(max_entries=64)
def predictions(model: HookedTransformer, subject: Subject) -> Reading:
    """What the model predicts behind each token; of an encoder–decoder, of the decoder's."""
    logits = model(**inputs_of(subject))
    line = subject.predicts
    about = kind(subject)
    if about == "class":
        n = model.cfg.d_vocab_out
        return Reading(outputs_table(model, logits, ["the text"], n=n), pd.DataFrame())
    found = outputs_table(model, logits[0], line.texts, n=N_PREDICTIONS)
    if about != "next":
        return Reading(found, pd.DataFrame())
    return Reading(found, surprise_table(model, logits[0], line.tokens, line.texts))


@reading(max_entries=64)
def followed(model: HookedTransformer, subject: Subject, outputs: tuple[int, ...]) -> pd.DataFrame:
    """Some outputs at every position: as `followed_table`."""
    return followed_table(model, model(**inputs_of(subject))[0], subject.predicts.texts, outputs)


def compared(subject: Subject) -> pd.DataFrame:
    """The prompt beside the second one: as `comparison_table`."""
    return _compared((subject.key, subject.with_other().key), subject)


@st.cache_data(max_entries=32, show_spinner="Comparing …")
def _compared(key: object, _subject: Subject) -> pd.DataFrame:
    # Interventions belong to each run; `reading` would put them on for one input.
    loaded, second = _subject.loaded, _subject.with_other()
    with loaded.lock, torch.no_grad():
        return comparison_table(loaded.model, inputs_of(_subject), inputs_of(second), _subject.plan)


@dataclass(frozen=True)
class Draws:
    """How a text is continued; the arguments of `continuation_table`.

    Attributes:
        n: Tokens at most.
        temperature: 0: the likeliest each time.
        top_k: 0: no cut.
        top_p: 1: no cut.
        seed: Of the draws.
    """

    n: int
    temperature: float
    top_k: int
    top_p: float
    seed: int


def continued(subject: Subject, draws: Draws) -> pd.DataFrame:
    """The text continued: as `continuation_table`.

    Raises:
        InputError: As `continuation_table`.
    """
    return _continued((subject.key, draws), subject, draws)


@st.cache_data(max_entries=32, show_spinner="Writing …")
def _continued(key: object, _subject: Subject, _draws: Draws) -> pd.DataFrame:
    loaded = _subject.loaded
    with loaded.lock:
        return continuation_table(
            loaded.model,
            inputs_of(_subject),
            _draws.n,
            _draws.temperature,
            _draws.top_k or None,
            _draws.top_p if _draws.top_p < 1 else None,
            _draws.seed,
            _subject.plan,
        )
