"""How much of every head's attention scores comes from content, from position, or from both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import require
from interp.position_effects.attention_run import (
    checked_rows,
    chosen_layers,
    in_batches,
    watch_layers,
)
from interp.position_effects.key_variance import SeenKeys, above_rounding
from interp.position_effects.score_parts import GrandMean, ScoreParts, ScoreSplitter, sum_of
from interp.precision import wide

if TYPE_CHECKING:
    from interp.position_effects.means import PositionMeans
    from interp.transformer import HookedTransformer

_SCORES = "attn.hook_attn_scores"


@dataclass(frozen=True)
class ScorePartStatistics:
    """Numbers of each part of every head's scores, over queries that see two keys or more.

    A softmax sees only how scores differ over the keys of one query, so variances are taken over
    those keys, each counted alike, and averaged over queries and texts.

    Attributes:
        layers: The blocks, in order.
        names: The parts, in order.
        share: The part's covariance with the sum of all parts over the variance of that sum. Shares
            sum to 1; one is negative where a part works against the rest. NaN where a head's
            scores differ by no more than rounding.
        spread: Standard deviation over keys of the part alone, in nats.
        mean_abs: Mean of |part|, in nats, what is the same for all keys included.
        pattern_change: Attention that would move if the part were left out of the scores: half the
            sum over keys of |pattern - pattern without it|, from 0 to 1.
        total_spread: Standard deviation over keys of the sum, in nats.
        error: Largest |sum of the parts - `hook_attn_scores`| over max(1, largest score), the cap
            applied where there is one.
        n_sequences: Texts.
    """

    layers: tuple[int, ...]
    names: tuple[str, ...]
    share: Float[Tensor, "layer head part"]
    spread: Float[Tensor, "layer head part"]
    mean_abs: Float[Tensor, "layer head part"]
    pattern_change: Float[Tensor, "layer head part"]
    total_spread: Float[Tensor, "layer head"]
    error: float
    n_sequences: int


@torch.no_grad()
def score_part_statistics(
    model: HookedTransformer,
    tokens: Int[Tensor, "batch pos"],
    means: PositionMeans,
    layers: Sequence[int] | None = None,
    *,
    grand_mean: GrandMean = "position",
    split_bias: bool = False,
    batch_size: int | None = None,
) -> ScorePartStatistics:
    """Take the scores of every head apart (`score_parts`), and say how large each part is.

    One run; of the scores of a layer nothing is kept when the next layer runs.

    Args:
        model, tokens, means, grand_mean, split_bias: As in `score_parts`; `means` of every layer
            that is asked for.
        layers: Which blocks. None: all.
        batch_size: Rows that run at once, for less memory. None: all.

    Raises:
        InputError: as `score_parts`, for rows of one token, and for a model without layers.
    """
    tokens = checked_rows(model, tokens)
    n_pos = tokens.shape[1]
    require(n_pos > 1, f"rows must have two tokens or more. Received {n_pos}")
    chosen = chosen_layers(model, layers)
    splitter = ScoreSplitter(model, means, n_pos, grand_mean, split_bias)
    sums = {layer: _Sums() for layer in chosen}

    def look(layer: int, seen: dict[str, Tensor]) -> None:
        sums[layer].add(splitter.split(layer, seen), wide(seen[_SCORES]))

    # All blocks have the same kind of norm, or none.
    names = [*splitter.hooks(chosen[0]), _SCORES]
    for rows in in_batches(tokens, batch_size):
        watch_layers(model, rows, names, look, chosen)
    found = [sums[layer] for layer in chosen]
    n = len(tokens)
    variance = torch.stack([s.variance for s in found])
    covariance, own = (torch.stack([getattr(s, x) for s in found]) for x in ("covariance", "own"))
    queries = torch.tensor([s.n_choosing for s in found], device=variance.device)[:, None, None] * n
    mean_abs = torch.stack([s.absolute for s in found]) / queries
    total_spread = (variance[..., None] / queries).sqrt()[..., 0]
    differs = above_rounding(total_spread, mean_abs.sum(-1), found[0].dtype)
    return ScorePartStatistics(
        tuple(chosen),
        found[0].names,
        covariance / variance.where(differs, torch.nan)[..., None],
        (own / queries).sqrt(),
        mean_abs,
        torch.stack([s.moved for s in found]) / queries,
        total_spread,
        float(torch.stack([s.error for s in found]).max()),
        n,
    )


class _Sums:
    """Sums over the texts of one layer, `[head]` or `[head, part]`."""

    names: tuple[str, ...] = ()

    def add(self, parts: ScoreParts, scores: Tensor) -> None:
        """Count in some more texts; `scores` are those of the run."""
        if not self.names:
            self.names = parts.names
            self.keys = SeenKeys(parts.visible)
            self.n_choosing = self.keys.n_choosing
            self.variance = self.covariance = self.own = self.absolute = torch.zeros(
                (), dtype=torch.float64, device=scores.device
            )
            self.moved = self.error = self.variance
        keys, chooses = self.keys, self.keys.chooses
        made = parts.scores()
        found = made.masked_fill(~keys.visible, 0.0) - scores.masked_fill(~keys.visible, 0.0)
        largest = scores.masked_fill(~keys.visible, 0.0).abs().max().clamp(min=1.0)
        self.error = torch.maximum(self.error, (found.abs().max() / largest).double())
        self.dtype = made.dtype
        # The sum of what is centred, not the sum centred: where the keys' scores hardly differ the
        # two round apart, and shares of the one would not be shares of the other.
        each = [keys.centred(parts[name]) for name in self.names]
        total = sum_of(each)
        self.variance = self.variance + keys.product(total, total).sum(0)
        pattern = parts.pattern()
        covariance, own, absolute, moved = [], [], [], []
        for name, centred in zip(self.names, each, strict=True):
            covariance.append(keys.product(centred, total).sum(0))
            own.append(keys.product(centred, centred).sum(0))
            absolute.append(keys.mean(parts[name].abs())[..., chooses].double().sum((0, -1)))
            change = (pattern - parts.pattern([name])).abs().sum(-1)[..., chooses] / 2
            moved.append(change.double().sum((0, -1)))
        self.covariance = self.covariance + torch.stack(covariance, -1)
        self.own = self.own + torch.stack(own, -1)
        self.absolute = self.absolute + torch.stack(absolute, -1)
        self.moved = self.moved + torch.stack(moved, -1)
