"""A penalty on the scores that grows with distance (Press et al. 2022, ALiBi)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.config import HookedTransformerConfig
from interp.positions.base import PositionalEncoding


class AlibiPositions(PositionalEncoding):
    """Head h adds -slope_h · |query position - key position|. Defined for every position.

    The slopes of n heads are 2^(-8/n), 2^(-16/n), …, 2^-8 where n is a power of two; else those of
    the next lower power, followed by every second one of the next higher power.
    """

    biases_scores = True

    def __init__(self, cfg: HookedTransformerConfig, causal: bool = True) -> None:
        super().__init__(cfg, causal)
        self.n_heads = cfg.n_heads
        self.max_bias = cfg.alibi_max_bias

    def slopes(self, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "head"]:
        """The slope of every head."""
        power = 2 ** math.ceil(math.log2(self.n_heads))
        steps = torch.arange(1, power + 1, device=device, dtype=torch.float64)
        slopes = 2.0 ** (-self.max_bias * steps / power)
        if power != self.n_heads:
            slopes = torch.cat([slopes[1::2], slopes[::2]])[: self.n_heads]
        return slopes.to(dtype)

    def score_bias(
        self,
        queries: Int[Tensor, "batch pos"],
        keys: Int[Tensor, "batch key_pos"],
        dtype: torch.dtype,
    ) -> Float[Tensor, "batch head pos key_pos"]:
        """The penalties of these positions."""
        distance = (queries[:, None, :, None] - keys[:, None, None, :]).abs()
        return -self.slopes(queries.device, dtype)[:, None, None] * distance
