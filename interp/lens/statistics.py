"""What distributions over the vocabulary say, without keeping them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.lens.read_out import final_scale, read_out
from interp.precision import wide

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

Vectors = Float[Tensor, "row d_model"]
Translate = Callable[[int, Float[Tensor, "row d_model"]], Float[Tensor, "row d_model"]]

# How many tensors as large as the logits there are at once.
_TEMPORARIES = 5


@dataclass(frozen=True)
class Statistics:
    """Of each stream and row; `[stream, row]` where nothing else is said.

    Attributes:
        top_tokens, top_probabilities: The likeliest tokens, `[stream, row, k]`.
        entropy: −Σ q log q of the stream's distribution q, in nats.
        kl: KL(p ‖ q) = Σ p log(p / q) from the final distribution p, in nats.
        final_probability: What q gives the token that p gives most.
        target_logit, target_probability: Of the targets, `[stream, row, target]`; None: no targets.
        target_rank: How many tokens have a larger logit than the target, likewise.
        logits: `[stream, row, d_vocab_out]`; None: not kept.
        final_token: The token that p gives most, `[row]`.
    """

    top_tokens: Int[Tensor, "stream row k"]
    top_probabilities: Float[Tensor, "stream row k"]
    entropy: Float[Tensor, "stream row"]
    kl: Float[Tensor, "stream row"]
    final_probability: Float[Tensor, "stream row"]
    target_logit: Float[Tensor, "stream row target"] | None
    target_probability: Float[Tensor, "stream row target"] | None
    target_rank: Int[Tensor, "stream row target"] | None
    logits: Float[Tensor, "stream row d_vocab_out"] | None
    final_token: Int[Tensor, "row"]


@torch.no_grad()
def read_statistics(
    model: HookedTransformer,
    streams: Sequence[Vectors],
    final: Vectors,
    targets: Int[Tensor, "row target"] | None,
    top_k: int,
    *,
    own_scale: bool = True,
    translate: Translate | None = None,
    keep_logits: bool = False,
    max_bytes: int = 1 << 28,
) -> Statistics:
    """Read every stream at every row, some rows and streams at a time.

    Args:
        model: Whose final norm and unembedding are used.
        streams: What is read.
        final: The last residual stream, which the model's own logits are made of.
        targets: Tokens to follow.
        top_k: How many of the likeliest tokens to keep.
        own_scale: The final norm recomputed for each vector; False: with the scale of `final`.
        translate: What stream number i is changed by before it is read.
        keep_logits: Keep all logits too.
        max_bytes: What the logits that are there at once may take, with what is made of them.
    """
    n_rows, n_streams = final.shape[0], len(streams)
    size = model.cfg.d_vocab_out * (8 if final.dtype == torch.float64 else 4) * _TEMPORARIES
    rows_at_once = max(min(max_bytes // (2 * size), n_rows), 1)
    streams_at_once = max(max_bytes // (2 * size * rows_at_once), 1)
    by_rows: list[list[dict[str, Tensor]]] = []
    final_tokens = []
    for start in range(0, n_rows, rows_at_once):
        rows = slice(start, start + rows_at_once)
        p = wide(read_out(model, final[rows])).log_softmax(-1)
        share = p.exp()
        final_token = p.argmax(-1)
        final_tokens.append(final_token)
        scale = None if own_scale else final_scale(model, final[rows])
        wanted = final_token[:, None]
        if targets is not None:
            wanted = torch.cat([wanted, targets[rows]], -1)
        parts = []
        for first in range(0, n_streams, streams_at_once):
            chosen = range(first, min(first + streams_at_once, n_streams))
            vectors = [streams[i][rows] for i in chosen]
            if translate is not None:
                vectors = [translate(i, x) for i, x in zip(chosen, vectors, strict=True)]
            logits = wide(read_out(model, torch.stack(vectors), scale))
            parts.append(_measured(logits, p, share, wanted, top_k, keep_logits))
        by_rows.append(parts)
    found = {
        name: torch.cat([torch.cat([part[name] for part in parts]) for parts in by_rows], 1)
        for name in by_rows[0][0]
    }
    followed = targets is not None
    return Statistics(
        top_tokens=found["top_tokens"],
        top_probabilities=found["top_probabilities"],
        entropy=found["entropy"],
        kl=found["kl"],
        final_probability=found["probability"][..., 0],
        target_logit=found["logit"][..., 1:] if followed else None,
        target_probability=found["probability"][..., 1:] if followed else None,
        target_rank=found["rank"][..., 1:] if followed else None,
        logits=found.get("logits"),
        final_token=torch.cat(final_tokens),
    )


def _measured(
    logits: Float[Tensor, "stream row d_vocab_out"],
    p: Float[Tensor, "row d_vocab_out"],
    share: Float[Tensor, "row d_vocab_out"],
    wanted: Int[Tensor, "row wanted"],
    top_k: int,
    keep_logits: bool,
) -> dict[str, Tensor]:
    """Everything of these streams and rows; p are log-probabilities and share what they are of."""
    q = logits.log_softmax(-1)
    top = q.topk(top_k, -1)
    index = wanted.expand(len(logits), -1, -1)
    logit = logits.gather(-1, index)
    found = {
        "top_tokens": top.indices,
        "top_probabilities": top.values.exp(),
        "kl": _sum_where(share, share * (p - q)),
        "logit": logit,
        "probability": q.gather(-1, index).exp(),
        # One target at a time: a comparison of all of them is another tensor of logits for each.
        "rank": torch.stack([(logits > x).sum(-1) for x in logit.split(1, -1)], -1),
    }
    mine = q.exp()
    found["entropy"] = -_sum_where(mine, mine * q)
    if keep_logits:
        found["logits"] = logits
    return found


def _sum_where(share: Tensor, terms: Tensor) -> Tensor:
    """The sum of terms over the vocabulary where the share is not nothing: 0 log 0 = 0."""
    return terms.masked_fill_(share == 0, 0.0).sum(-1)
