"""What ALiBi and T5's relative positions add to the scores, by offset and head.

The curves are read from the encoding, and recovered from what a model's scores hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.behaviour.reading import check_part
from interp.errors import require, require_whole
from interp.position_effects.attention_run import (
    block_of,
    checked_rows,
    normalised_queries_and_keys,
    visible_keys,
    watch_layers,
)
from interp.position_effects.key_variance import OffsetSums
from interp.positions.alibi import AlibiPositions
from interp.positions.relative import RelativePositions

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

_Q, _K, _SCORES = "attn.hook_q", "attn.hook_k", "attn.hook_attn_scores"


@dataclass(frozen=True)
class BiasCurves:
    """What an encoding adds to every layer's scores.

    Attributes:
        offsets: Query position less key position; below zero where a query may look ahead.
        curve: In nats.
        buckets: Of T5's relative positions: the bucket of each offset, the same for all heads.
        slopes: Of ALiBi: what is taken off for each position of distance.
    """

    offsets: Int[Tensor, "offset"]
    curve: Float[Tensor, "head offset"]
    buckets: Int[Tensor, "offset"] | None
    slopes: Float[Tensor, "head"] | None

    def attention(self) -> Float[Tensor, "head offset"]:
        """Attention over these offsets if all contents were alike: the softmax of the curve."""
        return self.curve.double().softmax(-1)

    def half_distance(self) -> Int[Tensor, "head"]:
        """The least distance within which half of that attention lies.

        Of the last query where queries look back, of one with as many keys on either side where
        they look ahead too. Of ALiBi with a slope m in a long text it is about ln(2) / m.
        """
        distances = self.offsets.abs()
        order = distances.argsort(stable=True)
        mass = self.attention()[:, order].cumsum(-1)
        first = (mass < 0.5 - 1e-12).sum(-1)
        return distances[order][first]


def bias_curves(
    model: HookedTransformer,
    length: int | None = None,
    part: Literal["decoder", "encoder"] | None = None,
) -> BiasCurves:
    """The curves of ALiBi or of T5's relative positions, by offset.

    Args:
        model: With one of these encodings.
        length: Of the text: offsets go up to one less. None: `n_ctx`.
        part: Of an encoder–decoder, whose. None: the decoder's.

    Raises:
        InputError: for another encoding, a part that the model does not have, or a length that is
            no whole number from 1 on.
    """
    check_part(model, part)
    length = model.cfg.n_ctx if length is None else length
    require_whole("length", length, 1)
    stack: Any = model.encoder if part == "encoder" else model.main_stack
    encoding = stack.pos_embed
    require(
        bool(encoding.biases_scores),
        "bias curves need ALiBi or relative positions. This model's are "
        f"{model.cfg.positional_embedding_type!r}",
    )
    device = model.W_E.device
    offsets = torch.arange(0 if stack.causal else 1 - length, length, device=device)
    # One query as far on as the offsets go, and a key at each offset from it.
    query = torch.full((1, 1), length - 1, device=device)
    curve = encoding.score_bias(query, query - offsets, model.cfg.dtype)[0, :, 0].detach()
    relative = isinstance(encoding, RelativePositions)
    penalises = isinstance(encoding, AlibiPositions)
    return BiasCurves(
        offsets,
        curve,
        encoding.buckets(-offsets) if relative else None,
        encoding.slopes(device, model.cfg.dtype) if penalises else None,
    )


@dataclass(frozen=True)
class RecoveredBias:
    """What a run's scores hold beside scaled (and capped) products of queries and keys.

    Attributes:
        offsets: Query position less key position.
        curve: The mean of that over texts, queries and keys, in nats (fp64).
        deviation: The largest distance of any entry from the curve: it is rounding where what is
            added depends on the offset alone.
        largest: The largest |score| of each head, which the rounding is relative to.
    """

    offsets: Int[Tensor, "offset"]
    curve: Float[Tensor, "head offset"]
    deviation: Float[Tensor, "head"]
    largest: Float[Tensor, "head"]

    def slopes(self) -> Float[Tensor, "head"]:
        """The slope of the line -slope · |offset| that fits the curve best (least squares)."""
        distance = self.offsets.abs().double()
        return -(self.curve @ distance) / distance.pow(2).sum()


@torch.no_grad()
def recovered_bias(
    model: HookedTransformer, tokens: Int[Tensor, "batch pos"], layer: int
) -> RecoveredBias:
    """Find what position adds to a layer's scores from the scores of a run.

    Nothing of the encoding is looked at: what queries and keys of the run give is taken off
    `hook_attn_scores`. For an encoding that turns queries and keys, or adds to them, what is left
    is none of its own and says nothing, so those are refused.

    Args:
        model: With one stack, and an encoding that adds to the scores or none.
        tokens: Rows of two tokens or more, without padding.
        layer: The block.

    Raises:
        InputError: for another encoding, a layer that does not exist, or tokens that are no such
            rows.
    """
    tokens = checked_rows(model, tokens)
    n_pos = tokens.shape[1]
    require(n_pos > 1, f"rows must have two tokens or more. Received {n_pos}")
    attn = block_of(model, layer).attn
    encoding = model.main_stack.pos_embed
    require(
        not encoding.rotates,
        "what turned queries and keys give is no bias of the scores. This model's positions are "
        f"{model.cfg.positional_embedding_type!r}",
    )
    visible = visible_keys(model, layer, n_pos, tokens.device)
    sums = OffsetSums(n_pos, bool(model.main_stack.causal), tokens.device)
    found: list[RecoveredBias] = []

    def look(_: int, seen: dict[str, Tensor]) -> None:
        q, k = normalised_queries_and_keys(attn, seen[_Q], seen[_K])
        made = q.double().transpose(1, 2) @ k.double().permute(0, 2, 3, 1) / attn.attn_scale
        cap = attn.cfg.attn_scores_soft_cap
        if cap > 0:
            made = cap * torch.tanh(made / cap)
        scores = seen[_SCORES].double().masked_fill(~visible, 0.0)
        left = (scores - made).masked_fill(~visible, 0.0)
        largest = scores.abs().amax((0, 2, 3))
        n = sums(visible.double())
        curve = sums(left.mean(0)) / n.clamp(min=1)
        expected = sums.spread(curve).masked_fill(~visible, 0.0)
        deviation = (left - expected).abs().amax((0, 2, 3))
        there = n > 0
        found.append(RecoveredBias(sums.offsets[there], curve[:, there], deviation, largest))

    watch_layers(model, tokens, (_Q, _K, _SCORES), look, [layer])
    return found[0]
