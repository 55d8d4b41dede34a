"""Skip-trigrams: source … destination → output, the sentences that a single head knows.

A head that attends from a destination a to a source b adds the b-th row of its OV circuit to the
logits: where b came before and a is here, c becomes likelier.

Source: Elhage et al. 2021, A Mathematical Framework for Transformer Circuits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import require_whole
from interp.factored import FactoredMatrix
from interp.weight_circuits.chunks import blocks
from interp.weight_circuits.circuits import Rows, ov_circuit, qk_circuit

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


@dataclass(frozen=True, slots=True)
class SkipTrigrams:
    """The strongest triples of a head, the strongest first.

    Attributes:
        source, destination, output: Tokens, `[triple]`.
        attention: How much more the destination likes this source than an average token, in scores
            (per unit of the norms' scales).
        logit: What reading the source adds to the output's logit, less the mean over all logits.
        strength: attention × logit.
    """

    source: Int[Tensor, "triple"]
    destination: Int[Tensor, "triple"]
    output: Int[Tensor, "triple"]
    attention: Float[Tensor, "triple"]
    logit: Float[Tensor, "triple"]
    strength: Float[Tensor, "triple"]

    def __len__(self) -> int:
        return len(self.strength)


@torch.no_grad()
def skip_trigrams(
    model: HookedTransformer,
    layer: int,
    head: int,
    k: int = 10,
    rises: bool = True,
    rows: Rows = "token",
    distance: int = 0,
    chunk: int | None = None,
) -> SkipTrigrams:
    """The k triples whose output rises (or falls) the most, by attention × logit.

    Only sources that a destination likes more than the average count (attention above zero): what a
    head does not look at it does not act on. Of a softmax, as of scores, only what differs between
    sources has an effect, and of logits what differs between outputs: both are taken less their
    means.

    For each source the k best triples are made of the k destinations that like it most and the k
    outputs that it moves most, so that no array of d_vocab³ entries is ever made.

    Args:
        model: With `head="lm"`.
        layer: The head's layer.
        head: Its number.
        k: How many triples.
        rises: False: triples whose output falls.
        rows: What source and destination are: `token` or `effective`.
        distance: Rotary positions: how far the source lies back.
        chunk: Sources at a time.

    Returns:
        At most k triples; fewer if fewer move at all.

    Raises:
        InputError: as `ov_circuit` and `qk_circuit`; for k or chunk below 1.
    """
    require_whole("k", k, 1)
    qk = qk_circuit(model, layer, head, rows, rows, distance, scaled=True)
    ov = ov_circuit(model, layer, head, rows, less_mean=True)
    # Less its mean over sources; rows of the transpose are sources.
    keys = qk.B - qk.B.mean(-1, keepdim=True)
    if chunk is None:
        chunk = max(1, (1 << 24) // max(ov.rdim, qk.ldim))
    sign = 1.0 if rises else -1.0
    best = _Best(k)
    likes_blocks = blocks(FactoredMatrix(keys.mT, qk.A.mT), chunk)
    for (start, likes), (_, moves) in zip(likes_blocks, blocks(ov, chunk), strict=True):
        # The k best triples are of the k sources whose best triples are the best.
        furthest = moves.amax(-1) if rises else -moves.amin(-1)
        ceiling = likes.amax(-1).clamp(min=0) * furthest.clamp(min=0)
        sources = ceiling.topk(min(k, len(ceiling))).indices
        attention = likes[sources].topk(min(k, likes.shape[1]))
        logit = (moves[sources] * sign).topk(min(k, moves.shape[1]))
        a, c = attention.values.clamp(min=0), logit.values.clamp(min=0)
        best.add(sources + start, a[:, :, None] * c[:, None, :], attention, logit)
    return best.found(sign)


class _Best:
    """The k strongest triples so far."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.parts: list[Tensor] = []
        self.strength: Tensor | None = None

    def add(
        self,
        sources: Int[Tensor, "source"],
        strength: Float[Tensor, "source a c"],
        attention: torch.return_types.topk,
        logit: torch.return_types.topk,
    ) -> None:
        n_a, n_c = strength.shape[1:]
        top = strength.flatten().topk(min(self.k, strength.numel()))
        source = top.indices // (n_a * n_c)
        a, c = top.indices // n_c % n_a, top.indices % n_c
        new = [
            sources[source],
            attention.indices[source, a],
            logit.indices[source, c],
            attention.values[source, a],
            logit.values[source, c],
        ]
        if self.strength is None:
            self.parts, self.strength = new, top.values
            return
        joined = torch.cat([self.strength, top.values])
        kept = joined.topk(min(self.k, len(joined)))
        self.parts = [torch.cat(pair)[kept.indices] for pair in zip(self.parts, new, strict=True)]
        self.strength = kept.values

    def found(self, sign: float) -> SkipTrigrams:
        assert self.strength is not None
        moves = self.strength > 0
        source, destination, output, attention, logit = (part[moves] for part in self.parts)
        return SkipTrigrams(
            source, destination, output, attention, logit * sign, self.strength[moves] * sign
        )
