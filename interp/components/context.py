"""What the attention of a layer is told beside what it reads: masks and positions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from interp.components.mask import AttentionMask
from interp.errors import require
from interp.positions import PositionalEncoding
from interp.positions.base import Rotation


@dataclass(frozen=True)
class AttentionContext:
    """What all layers of a run share.

    Attributes:
        mask: Who may attend to whom.
        rotation: How queries and keys turn; None: not at all.
        bias: Added to the scores, `[batch or 1, head, pos, key_pos]`.
        added_to_qk: Added to what queries and keys are made from, `[batch, pos, d_model]`.
    """

    mask: AttentionMask
    rotation: Rotation | None = None
    bias: Float[Tensor, "#batch head pos key_pos"] | None = None
    added_to_qk: Float[Tensor, "#batch pos d_model"] | None = None

    @cached_property
    def for_fused(self) -> tuple[Shaped[Tensor, "#batch #head pos key_pos"] | None, bool]:
        """`attn_mask` and `is_causal` of `scaled_dot_product_attention`."""
        mask, is_causal = self.mask.for_fused
        if self.bias is None:
            return mask, is_causal
        if is_causal:
            mask = self.mask.allowed
        return (self.bias if mask is None else self.bias.masked_fill(~mask, -torch.inf)), False


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What makes the context of a layer that is called by hand.

    Attributes:
        positions: Of the stack that the layer is in. None: it is cross-attention, without any.
        window: How far a destination sees. None: everywhere.
    """

    positions: PositionalEncoding | None
    window: int | None

    def context(
        self, queries: Float[Tensor, "batch pos *head d_model"], n_keys: int
    ) -> AttentionContext:
        """That of texts without padding, from their first position on.

        Raises:
            InputError: for self-attention with another number of keys than queries, and for texts
                longer than there are positions.
        """
        n, device, positions = queries.shape[1], queries.device, self.positions
        if positions is None:
            return AttentionContext(AttentionMask(n, n_keys, False, None, device))
        require(
            n == n_keys,
            "self-attention that is called by hand reads queries and keys at the same positions. "
            f"Received {n} and {n_keys}",
        )
        positions.check_length(n)
        own = next(positions.parameters(), None)
        places = torch.arange(n, device=device if own is None else own.device)[None]
        bias = added = rotation = None
        if positions.biases_scores:
            bias = positions.score_bias(places, places, queries.dtype).to(device)
        if positions.adds_to_queries_and_keys:
            added = positions.embedding(places, n).to(device, queries.dtype)
        if positions.rotates:
            local = self.window is not None
            rotation = positions.rotation(places.to(device), n, queries.dtype, local)
        mask = AttentionMask(n, n, positions.causal, None, device, self.window)
        return AttentionContext(mask, rotation, bias, added)
