"""What a model says about tokens: predictions, surprise, attention."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from analyses.prompts import predictions_table
from dashboards.readings.base import inputs_of, reading
from dashboards.subject import Subject
from interp import HookedTransformer, InputError

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


def predictions(subject: Subject) -> Reading:
    """What the model predicts behind each token; of an encoder–decoder, of the decoder's.

    Raises:
        InputError: If the model does not predict next tokens.
    """
    cfg = subject.loaded.model.cfg
    if cfg.architecture == "encoder" or cfg.attention_dir != "causal":
        raise InputError(f"{subject.loaded.name} reads both ways: it predicts no next token")
    return _predictions(subject)


@reading(max_entries=64)
def _predictions(model: HookedTransformer, subject: Subject) -> Reading:
    logits = model(**inputs_of(subject))
    line = subject.predicts
    tokens, texts = line.tokens, line.texts
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


@reading(max_entries=16, spinner="Watching attention …")
def patterns(
    model: HookedTransformer, subject: Subject, layers: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    """Attention `[layer, head, pos, key_pos]` of these layers; no other layer's is recorded."""
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in layers]
    _, cache = model.run_with_cache(**inputs_of(subject), names_filter=names, return_type=None)
    found: npt.NDArray[np.float32] = torch.stack([cache[n][0] for n in names]).float().cpu().numpy()
    return found
