"""A text continued by a model, token by token, with what it thought of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from analyses.inputs.prompts import token_texts
from interp.errors import InputError, require
from interp.generation import Sampling
from interp.generation.sampling import make_generator
from interp.interventions import applied

if TYPE_CHECKING:
    from interp.interventions import Intervention
    from interp.transformer import HookedTransformer


@torch.no_grad()
def continuation_table(
    model: HookedTransformer,
    inputs: Mapping[str, Any],
    n: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    interventions: Sequence[Intervention] = (),
) -> pd.DataFrame:
    """Continue a prompt, or an encoder–decoder's target, by n tokens at most.

    It ends behind the tokenizer's EOS and where the model can read no more. The whole text is read
    at every step, and interventions are made anew on all of it: those at a position that counts
    from the end move along with the end.

    Columns: step from 1, position, token_id, token, `probability` and `rank` by the model's own
    prediction (no temperature, no cut), `drawn_from` (its probability among what was drawn from;
    1 where the likeliest was taken), `entropy` of the prediction (nats), `likeliest_token`.

    Args:
        model: The model, without the interventions.
        inputs: What it is called with, a batch of one.
        n: How many tokens at most.
        temperature: 0 takes the likeliest token each time.
        top_k, top_p: As `interp.generation.Sampling`; None: no cut.
        seed: Of the draws.
        interventions: Made at every step.

    Raises:
        InputError: for a model that predicts no next token, a bad option, or an output that the
            model cannot read.
    """
    cfg = model.cfg
    if cfg.architecture == "encoder" or cfg.attention_dir != "causal":
        raise InputError("a model that reads both ways predicts no next token to continue with.")
    require(n >= 1, f"n must be at least 1. Received {n}")
    sampling = Sampling(temperature > 0, temperature, top_k, top_p)
    generator = make_generator(seed, None, model.W_E.device) if temperature > 0 else None
    end = None if model.tokenizer is None else model.tokenizer.eos_token_id
    grows = "decoder_input" if cfg.architecture == "encoder-decoder" else "input"
    given = dict(inputs)
    rows: list[dict[str, Any]] = []
    while len(rows) < n and given[grows].shape[1] < cfg.n_ctx:
        with applied(model, interventions, **given) if interventions else nullcontext():
            logits = model(**given)[:, -1]
        token = int(sampling.choose(logits, given[grows], generator=generator)[0])
        logs = logits[0].double().log_softmax(-1)
        drawn = sampling.filter(logits, given[grows])[0].double().softmax(-1)
        rows.append(
            {
                "step": len(rows) + 1,
                "position": given[grows].shape[1],
                "token_id": token,
                "probability": float(logs[token].exp()),
                "rank": int((logs > logs[token]).sum()) + 1,
                "drawn_from": 1.0 if sampling.is_greedy else float(drawn[token]),
                "entropy": float(torch.special.entr(logs.exp()).sum()),
                "likeliest_token": int(logs.argmax()),
            }
        )
        if token == end:
            break
        if token >= cfg.d_vocab:
            raise InputError(f"the model gave output {token}, which it cannot read.")
        given[grows] = torch.cat([given[grows], given[grows].new_tensor([[token]])], dim=1)
    columns = ["step", "position", "token_id", "token", "probability", "rank", "drawn_from",
               "entropy", "likeliest_token"]  # fmt: skip
    table = pd.DataFrame(rows, columns=columns)
    table["token"] = token_texts(model, table["token_id"])
    table["likeliest_token"] = token_texts(model, table["likeliest_token"])
    return table
