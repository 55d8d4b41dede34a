"""Beam search, as Hugging Face defines it.

Each row keeps the `num_beams` likeliest unfinished continuations, and apart from them the
`num_beams` best finished ones. A finished one's score is the sum of its tokens' log-probabilities
over (number of new tokens) ** length_penalty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import require, require_one_of, require_whole
from interp.generation.reader import Reader
from interp.generation.sampling import repetition_penalty
from interp.generation.stopping import Stops

# What keeps a continuation out of every choice; Hugging Face's number, for equal arithmetic.
_NEVER = -1e9


class BeamOutput(NamedTuple):
    """What a beam search found.

    Attributes:
        tokens: `[row, pos]`, prompts included, best first; what follows an end is filled with EOS.
        scores: `[row]`.
        n_new: `[row]`: how many tokens were added, the ending one included.
    """

    tokens: Int[Tensor, "row pos"]
    scores: Float[Tensor, "row"]
    n_new: Int[Tensor, "row"]


@dataclass(frozen=True)
class BeamSettings:
    """How a beam search goes.

    Attributes:
        num_beams: Continuations kept for each row.
        length_penalty: Above 0 favours longer ones, below 0 shorter ones.
        early_stopping: When a row ends whose finished continuations are `num_beams`. True: at once.
            False: when the likeliest unfinished one would not be better if it ended here.
            `"never"`: when it cannot become better any more.
        num_return_sequences: How many of the best are returned.

    Raises:
        InputError: for a value out of its range.
    """

    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    num_return_sequences: int = 1

    def __post_init__(self) -> None:
        require_whole("num_beams", self.num_beams, 1)
        require_whole("num_return_sequences", self.num_return_sequences, 1)
        require(
            isinstance(self.length_penalty, int | float),
            f"length_penalty must be a number. Received {self.length_penalty!r}",
        )
        require_one_of("early_stopping", self.early_stopping, (False, True, "never"))


@dataclass
class _Finished:
    """The best finished continuations of each row, best first."""

    tokens: Int[Tensor, "batch beam new"]
    scores: Float[Tensor, "batch beam"]
    lengths: Int[Tensor, "batch beam"]
    taken: Bool[Tensor, "batch beam"]
    fill: int

    def merge(
        self, tokens: Int[Tensor, "batch candidate n"], scores: Tensor, ended: Tensor
    ) -> None:
        """Take those in that are better; `ended`: which of them are finished at all."""
        n_beams, n_new = self.scores.shape[1], tokens.shape[-1]
        padded = F.pad(tokens, (0, self.tokens.shape[2] - n_new), value=self.fill)
        scores, best = torch.cat([self.scores, scores], 1).topk(n_beams)
        lengths = torch.cat([self.lengths, torch.full_like(ended, n_new, dtype=torch.long)], 1)
        self.tokens = _take(torch.cat([self.tokens, padded], 1), best)
        self.lengths = lengths.gather(1, best)
        self.taken = torch.cat([self.taken, ended], 1).gather(1, best)
        self.scores = scores


def _take(x: Int[Tensor, "batch beam n"], places: Int[Tensor, "batch row"]) -> Tensor:
    return x.gather(1, places[..., None].expand(-1, -1, x.shape[2]))


def search(
    reader: Reader,
    max_new_tokens: int,
    settings: BeamSettings,
    stops: Stops,
    penalty: float = 1.0,
) -> BeamOutput:
    """Continue the reader's rows (at least one token); `penalty` is the repetition penalty.

    Raises:
        InputError: if so many tokens end a row that too few of the vocabulary are left.
    """
    n_beams, device = settings.num_beams, reader.tokens.device
    prompts, n_rows = reader.tokens, reader.tokens.shape[0]
    # Enough that `num_beams` go on even if every other candidate ends a continuation.
    per_beam, d_vocab = max(2, 1 + stops.n_ending_tokens), reader.model.cfg.d_vocab_out
    require(
        per_beam <= d_vocab,
        f"a beam search looks at more candidates than tokens that end a row: {per_beam} for each "
        f"beam here. The vocabulary has {d_vocab}",
    )
    n_candidates = per_beam * n_beams
    new = torch.empty(n_rows, n_beams, 0, dtype=torch.long, device=device)
    scores = torch.full((n_rows, n_beams), _NEVER, device=device)
    scores[:, 0] = 0.0  # all beams are the same prompt: candidates come from the first
    finished = _Finished(
        torch.full((n_rows, n_beams, max_new_tokens), stops.fill, device=device),
        torch.full((n_rows, n_beams), _NEVER, device=device),
        torch.zeros(n_rows, n_beams, dtype=torch.long, device=device),
        torch.zeros(n_rows, n_beams, dtype=torch.bool, device=device),
        stops.fill,
    )
    may_improve = torch.ones(n_rows, 1, dtype=torch.bool, device=device)
    first = torch.arange(n_rows, device=device)[:, None] * n_beams
    at_once = settings.early_stopping is True
    for n_new in range(1, max_new_tokens + 1):
        logits = reader.next_logits().float()
        if n_new == 1:  # the prompts are read once for all beams
            reader.repeat(n_beams)
            logits = logits.repeat_interleave(n_beams, 0)
        log_probs = logits.log_softmax(-1)
        if penalty != 1:
            log_probs = repetition_penalty(log_probs, reader.tokens, penalty, reader.real)
        totals = log_probs.view(n_rows, n_beams, d_vocab) + scores[..., None]
        sums, places = totals.flatten(1).topk(n_candidates)
        origin, token = places // d_vocab, places % d_vocab
        candidates = torch.cat([_take(new, origin), token[..., None]], 2)
        rows = candidates
        if stops.texts:  # which need to know what stands before them
            rows = torch.cat([prompts[:, None].expand(-1, n_candidates, -1), candidates], 2)
        ended = stops.ended(rows, n_new) | (n_new == max_new_tokens)

        going_on = sums + ended * _NEVER
        scores, kept = going_on.topk(n_beams)
        new = _take(candidates, kept)

        ended_well = ended.clone()
        ended_well[:, n_beams:] = False  # the other candidates are there only to go on
        final = sums / n_new**settings.length_penalty
        full = finished.taken.all(1, keepdim=True) & at_once
        final = final + full * _NEVER + ~may_improve * _NEVER + ~ended_well * _NEVER
        finished.merge(candidates, final, ended_well)

        # A row of which nothing goes on is over, also where others of the batch go on.
        may_improve &= ~ended.all(1, keepdim=True)
        may_improve &= _may_improve(scores, finished, n_new, max_new_tokens, settings)
        if not bool(may_improve.any()) or (at_once and bool(finished.taken.all())):
            break
        reader.select((first + origin.gather(1, kept)).flatten(), same_source=True)
        reader.append(new[:, :, -1].flatten())
    best = settings.num_return_sequences
    lengths = finished.lengths[:, :best].flatten()
    tokens = torch.cat(
        [
            prompts.repeat_interleave(best, 0),
            finished.tokens[:, :best].flatten(0, 1)[:, : int(lengths.max())],
        ],
        1,
    )
    return BeamOutput(tokens, finished.scores[:, :best].flatten(), lengths)


def _may_improve(
    scores: Float[Tensor, "batch beam"],
    finished: _Finished,
    n_new: int,
    max_new_tokens: int,
    settings: BeamSettings,
) -> Bool[Tensor, "batch 1"]:
    """Whether the likeliest unfinished continuation may beat the worst finished one."""
    patient = settings.early_stopping == "never" and settings.length_penalty > 0
    length = max_new_tokens if patient else n_new
    best_possible = scores[:, :1] / length**settings.length_penalty
    worst = finished.scores.amin(1, keepdim=True)
    worst = torch.where(finished.taken, worst, torch.full_like(worst, _NEVER))
    return (best_possible > worst).any(-1, keepdim=True)
