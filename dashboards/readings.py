"""What a model says about tokens, computed once for each model and row of tokens."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import streamlit as st
import torch

from analyses.prompts import predictions_table
from dashboards.subject import Loaded, Subject
from interp import InputError

N_PREDICTIONS = 10  # at each position


@dataclass(frozen=True)
class Reading:
    """Next-token predictions, and how much they were surprised.

    Attributes:
        predictions: position, rank, token, text, probability, logit.
        surprise: position, token, text, surprise in nats; without the first position, which
            nothing predicts.
    """

    predictions: pd.DataFrame
    surprise: pd.DataFrame


def reading(subject: Subject) -> Reading:
    """What the model predicts behind each token.

    Raises:
        InputError: If the model does not predict next tokens.
    """
    _check_one_sequence(subject)
    if subject.loaded.model.cfg.attention_dir != "causal":
        raise InputError(f"{subject.loaded.name} reads both ways: it predicts no next token")
    return _reading(subject.loaded.identity, subject.tokens, subject.texts, subject.loaded)


def patterns(subject: Subject, layers: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Attention `[layer, head, pos, key_pos]` of these layers; no other layer's is recorded.

    Raises:
        InputError: If the model reads two sequences.
    """
    _check_one_sequence(subject)
    return _patterns(subject.loaded.identity, subject.tokens, layers, subject.loaded)


def _check_one_sequence(subject: Subject) -> None:
    if subject.loaded.model.cfg.architecture == "encoder-decoder":
        raise InputError(
            f"{subject.loaded.name} is an encoder-decoder, which reads two sequences; these pages "
            "show models that read one (`interp translate` shows what it looks at)"
        )


@st.cache_data(max_entries=64, show_spinner="Reading …")
def _reading(
    identity: tuple[str, str], tokens: tuple[int, ...], texts: tuple[str, ...], _loaded: Loaded
) -> Reading:
    model = _loaded.model
    row = torch.tensor([tokens], device=model.W_E.device)
    with _loaded.lock, torch.no_grad():
        logits = model(row)
    # A token that the model cannot predict (the vocabularies differ) cannot surprise it either.
    places = [i for i in range(1, len(tokens)) if tokens[i] < model.cfg.d_vocab_out]
    losses = [-float(logits[0, i - 1].double().log_softmax(-1)[tokens[i]]) for i in places]
    tables = [
        predictions_table(model, logits[0, position], N_PREDICTIONS).assign(position=position)
        for position in range(len(tokens))
    ]
    surprise = pd.DataFrame(
        {
            "position": places,
            "token_id": [tokens[i] for i in places],
            "token": [texts[i] for i in places],
            "surprise": losses,
        }
    )
    return Reading(pd.concat(tables, ignore_index=True), surprise)


@st.cache_data(max_entries=16, show_spinner="Watching attention …")
def _patterns(
    identity: tuple[str, str], tokens: tuple[int, ...], layers: tuple[int, ...], _loaded: Loaded
) -> npt.NDArray[np.float32]:
    model = _loaded.model
    row = torch.tensor([tokens], device=model.W_E.device)
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in layers]
    with _loaded.lock, torch.no_grad():
        _, cache = model.run_with_cache(row, names_filter=names, return_type=None)
    found: npt.NDArray[np.float32] = torch.stack([cache[n][0] for n in names]).float().cpu().numpy()
    return found
