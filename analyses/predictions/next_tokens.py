"""What a model predicts along a prompt: likeliest tokens, surprise, and two prompts compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from analyses.inputs.prompts import token_texts
from interp.errors import InputError, require
from interp.interventions import applied

if TYPE_CHECKING:
    from interp.interventions import Intervention
    from interp.transformer import HookedTransformer


_NAMES = ("first", "second")  # prompts
_ROWS = 64  # read in fp64 at once: the logits of a long prompt are large


def outputs_table(
    model: HookedTransformer,
    logits: Float[Tensor, "pos d_vocab_out"],
    texts: Sequence[str],
    positions: Iterable[int] | None = None,
    n: int = 10,
) -> pd.DataFrame:
    """The n likeliest outputs at each position: of a decoder, of the token that comes next.

    Columns: position, `at_token` (its text), rank from 1, token_id, token, probability, logit.

    Args:
        model: The model.
        logits: Of one prompt.
        texts: Of its tokens.
        positions: Which; None: all.
        n: How many outputs of each.
    """
    places = list(range(len(logits)) if positions is None else positions)
    rows = logits[places].detach()
    n = min(n, rows.shape[-1])
    top = rows.topk(n)
    values = top.values.double()
    ids = top.indices.flatten().tolist()
    names = dict(zip(ids, output_texts(model, ids), strict=True))
    return pd.DataFrame(
        {
            "position": [i for i in places for _ in range(n)],
            "at_token": [texts[i] for i in places for _ in range(n)],
            "rank": list(range(1, n + 1)) * len(places),
            "token_id": ids,
            "token": [names[i] for i in ids],
            "probability": (values - _norm(rows)[:, None]).exp().flatten().cpu().numpy(),
            "logit": values.flatten().cpu().numpy(),
        }
    )


def output_texts(model: HookedTransformer, ids: Sequence[int]) -> list[str]:
    """Names of outputs: the tokens' texts; of a classifier the classes' numbers."""
    return [str(i) for i in ids] if model.cfg.classifies else token_texts(model, ids)


def surprise_table(
    model: HookedTransformer,
    logits: Float[Tensor, "pos d_vocab_out"],
    tokens: Sequence[int],
    texts: Sequence[str],
) -> pd.DataFrame:
    """How unlikely each token was, given those before it.

    Columns: position, token_id, token, `surprise` (-ln of its probability, nats), `expected` (the
    entropy of the prediction that it was drawn from by the model's reckoning: the surprise it
    expected), `rank` of the token in that prediction, from 1. Without the first token, which
    nothing predicts, and tokens that the model cannot predict (its outputs are fewer).
    """
    places = [i for i in range(1, len(tokens)) if tokens[i] < model.cfg.d_vocab_out]
    rows = logits[[i - 1 for i in places]].detach()
    ids = torch.tensor([tokens[i] for i in places], device=logits.device, dtype=torch.long)
    own = rows.gather(-1, ids[:, None])
    return pd.DataFrame(
        {
            "position": places,
            "token_id": ids.tolist(),
            "token": [texts[i] for i in places],
            "surprise": (_norm(rows) - own[:, 0].double()).cpu().numpy(),
            "expected": _entropy(rows).cpu().numpy(),
            "rank": ((rows > own).sum(-1) + 1).tolist(),
        }
    )


def followed_table(
    model: HookedTransformer,
    logits: Float[Tensor, "pos d_vocab_out"],
    texts: Sequence[str],
    outputs: Sequence[int],
) -> pd.DataFrame:
    """Some outputs at every position.

    Columns: position, `at_token` (what is read there), token_id, token, rank, probability, logit.

    Raises:
        InputError: for an output that has no logit.
    """
    n = logits.shape[-1]
    for token in outputs:
        require(0 <= token < n, f"an output must lie in 0 … {n - 1}. Received {token}")
    wide = logits.detach().double()
    probabilities = wide.softmax(-1)
    frames = [
        pd.DataFrame(
            {
                "position": range(len(wide)),
                "at_token": list(texts),
                "token_id": token,
                "token": output_texts(model, [token])[0],
                "rank": ((wide > wide[:, token, None]).sum(-1) + 1).tolist(),
                "probability": probabilities[:, token].cpu().numpy(),
                "logit": wide[:, token].cpu().numpy(),
            }
        )
        for token in outputs
    ]
    return pd.concat(frames, ignore_index=True)


@torch.no_grad()
def comparison_table(
    model: HookedTransformer,
    first: Mapping[str, Any],
    second: Mapping[str, Any],
    interventions: Sequence[Intervention] = (),
) -> pd.DataFrame:
    """Two prompts side by side, position by position, as far as both go.

    Columns: position; `first_token`, `second_token`: what is read there; `differs`;
    `first_surprise`, `second_surprise`: of these tokens, nats (NaN at the first position, and
    everywhere in a model that reads both ways); `change`: second - first; `first_next_token`,
    `second_next_token`: the likeliest outputs; `first_probability`, `second_probability`: theirs;
    `kl`: of the second's prediction from the first's, Σ p₁ ln(p₁/p₂), nats.

    Args:
        model: The model, without the interventions.
        first, second: What it is called with for each, a batch of one.
        interventions: Made in both runs.

    Raises:
        InputError: for a model that gives one output for a whole text.
    """
    if model.cfg.classifies:
        raise InputError("prompts are compared by position: a classifier has one output for all.")
    runs = []
    for inputs in (first, second):
        with applied(model, interventions, **inputs) if interventions else nullcontext():
            logits = model(**inputs)[0].double()
        tokens = inputs.get("decoder_input", inputs["input"])[0].tolist()
        runs.append((logits, tokens, token_texts(model, tokens)))
    n = min(len(tokens) for _, tokens, _ in runs)
    columns: dict[str, Any] = {"position": range(n)}
    columns.update({f"{name}_token": run[2][:n] for name, run in zip(_NAMES, runs, strict=True)})
    columns["differs"] = [a != b for a, b in zip(runs[0][1], runs[1][1], strict=False)]
    predicts = model.cfg.architecture != "encoder" and model.cfg.attention_dir == "causal"
    for name, (logits, tokens, texts) in zip(_NAMES, runs, strict=True):
        found = surprise_table(model, logits, tokens, texts).set_index("position")["surprise"]
        columns[f"{name}_surprise"] = found.reindex(range(n if predicts else 0)).reindex(range(n))
    columns["change"] = columns["second_surprise"] - columns["first_surprise"]
    logs = [logits[:n].log_softmax(-1) for logits, _, _ in runs]
    for name, each in zip(_NAMES, logs, strict=True):
        best = each.max(-1)
        columns[f"{name}_next_token"] = token_texts(model, best.indices)
        columns[f"{name}_probability"] = best.values.exp().cpu().numpy()
    terms = logs[0].exp() * (logs[0] - logs[1])
    columns["kl"] = terms.masked_fill(logs[0] == -torch.inf, 0.0).sum(-1).clamp(min=0).cpu().numpy()
    return pd.DataFrame(columns)


def aligned_texts(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """The tokens of two prompts as one row: `a|b` where they differ, as long as the longer."""
    pairs = zip_longest(first, second)
    return [(a if b in (a, None) else b if a is None else f"{a}|{b}") or "" for a, b in pairs]


def _norm(logits: Float[Tensor, "row d_vocab_out"]) -> Float[Tensor, "row"]:
    """ln Σ exp of each row's logits, in fp64."""
    return torch.cat([rows.double().logsumexp(-1) for rows in logits.split(_ROWS)])


def _entropy(logits: Float[Tensor, "row d_vocab_out"]) -> Float[Tensor, "row"]:
    """-Σ p ln p of each row, nats, in fp64."""
    parts = [torch.special.entr(rows.double().softmax(-1)).sum(-1) for rows in logits.split(_ROWS)]
    return torch.cat(parts)
