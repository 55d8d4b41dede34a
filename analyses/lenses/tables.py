"""What a lens read, as tables: a row for each residual stream and position."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from analyses.inputs.prompts import token_texts
from interp.lens import LensReading, logit_lens
from interp.lens.read_out import require_lens

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


def lens_table(model: HookedTransformer, reading: LensReading, texts: list[str]) -> pd.DataFrame:
    """A row for each stream and position of the first prompt.

    Args:
        model: That was read.
        reading: With no targets, or one for each position.
        texts: Of the tokens at the positions that were read.

    Returns:
        order (of the stream), stream, position, token, top_token, top_probability, final_token (the
        model's own prediction there), final_probability, kl, entropy (nats); with a target,
        target_probability and target_rank (1: the top).
    """
    n, n_streams = len(texts), len(reading.labels)
    top, final = reading.top_tokens[:, 0, :, 0], reading.final_token[0]
    table = pd.DataFrame(
        {
            "order": [i for i in range(n_streams) for _ in range(n)],
            "stream": [label for label in reading.labels for _ in range(n)],
            "position": reading.positions.tolist() * n_streams,
            "token": texts * n_streams,
            "top_token": token_texts(model, top.flatten()),
            "top_probability": column(reading.top_probabilities[..., 0]),
            "final_token": token_texts(model, final) * n_streams,
            "final_probability": column(reading.final_probability),
            "kl": column(reading.kl),
            "entropy": column(reading.entropy),
        }
    )
    if reading.target_rank is None or reading.target_probability is None:
        return table
    return table.assign(
        target_probability=column(reading.target_probability),
        target_rank=(reading.target_rank[:, 0].flatten() + 1).tolist(),
    )


def top_tokens_table(model: HookedTransformer, reading: LensReading, place: int) -> pd.DataFrame:
    """The likeliest tokens of each stream: order, stream, rank, token, token_id, probability.

    Args:
        model: That was read.
        reading: What was read of the first prompt.
        place: Which of the positions read, counted from the first of them.
    """
    tokens = reading.top_tokens[:, 0, place]
    k = tokens.shape[-1]
    return pd.DataFrame(
        {
            "order": [i for i in range(len(reading.labels)) for _ in range(k)],
            "stream": [label for label in reading.labels for _ in range(k)],
            "rank": list(range(1, k + 1)) * len(reading.labels),
            "token": token_texts(model, tokens.flatten()),
            "token_id": tokens.flatten().tolist(),
            "probability": reading.top_probabilities[:, 0, place]
            .flatten().double().cpu().numpy(),
        }
    )  # fmt: skip


@torch.no_grad()
def lens_grid(
    model: HookedTransformer,
    target: int,
    first: int = 0,
    last: int | None = None,
    incl_mid: bool = False,
    **inputs: Any,
) -> pd.DataFrame:
    """The logit lens of one prompt, with the ranks of the model's own prediction and of a token.

    Args:
        model: A model with a logit for every position; see `interp.lens.logit_lens`.
        target: The token that is followed at all positions.
        first, last: The positions to read, both ends included; the whole prompt by default.
        incl_mid: Read the streams between attention and MLP too.
        **inputs: What the model is called with, as tensors of one row.

    Returns:
        The columns of `lens_table`, and final_rank: that of final_token in the stream (1: the top).

    Raises:
        InputError: as `logit_lens`.
    """
    require_lens(model)
    tokens = inputs.get("decoder_input", inputs["input"])
    places = range(tokens.shape[1])[first : None if last is None else last + 1]
    predicted = model(**inputs)[:, places.start : places.stop].argmax(-1)
    followed = torch.stack([torch.full_like(predicted, target), predicted], -1)
    reading = logit_lens(
        model, targets=followed, pos_slice=list(places), top_k=1, incl_mid=incl_mid, **inputs
    )
    assert reading.target_rank is not None and reading.target_probability is not None
    table = lens_table(
        model, _of_first_target(reading), token_texts(model, tokens[0, list(places)])
    )
    return table.assign(final_rank=(reading.target_rank[:, 0, :, 1].flatten() + 1).tolist())


def column(x: Float[Tensor, "stream 1 pos"]) -> Any:
    """The numbers of the first prompt, by stream and then by position."""
    return x[:, 0].flatten().double().cpu().numpy()


def _of_first_target(reading: LensReading) -> LensReading:
    assert reading.target_rank is not None and reading.target_probability is not None
    return replace(
        reading,
        target_rank=reading.target_rank[..., 0],
        target_probability=reading.target_probability[..., 0],
    )
