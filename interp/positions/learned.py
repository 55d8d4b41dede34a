"""A learned vector for each position, added to the embedding (GPT-2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.config import HookedTransformerConfig
from interp.errors import InputError
from interp.positions.base import PositionalEncoding


class LearnedPositions(PositionalEncoding):
    """`W_pos[t]` for position t. Not defined past `n_ctx`.

    Attributes:
        W_pos: `[n_ctx, d_model]`.
    """

    adds_embedding = True

    def __init__(self, cfg: HookedTransformerConfig, causal: bool = True) -> None:
        super().__init__(cfg, causal)
        self.W_pos = nn.Parameter(torch.empty(cfg.n_ctx, cfg.d_model, dtype=cfg.dtype))

    def check_length(self, length: int) -> None:
        """Raise `InputError` past `n_ctx`: there is no vector for such a position."""
        if length > self.n_ctx:
            raise InputError(
                f"learned positions end at n_ctx ({self.n_ctx}). Received {length} tokens."
            )

    def embedding(
        self, positions: Int[Tensor, "batch pos"], length: int
    ) -> Float[Tensor, "batch pos d_model"]:
        """The vectors of these positions, all below `length`."""
        return F.embedding(positions, self.W_pos)
