"""A learned score for each range of distances (Raffel et al. 2020, T5, §2.1)."""

from __future__ import annotations

import math

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.config import HookedTransformerConfig
from interp.positions.base import PositionalEncoding


class RelativePositions(PositionalEncoding):
    """Head h adds `W_rel[bucket(key position - query position), h]`, the same in every layer.

    Small distances have buckets of their own, larger ones share buckets that widen in proportion
    up to `max_distance`, and all beyond it share the last. Without a causal mask one half of the
    buckets is for keys before the query, the other for those after. Defined for every position.

    Attributes:
        W_rel: `[bucket, head]`.
    """

    biases_scores = True

    def __init__(self, cfg: HookedTransformerConfig, causal: bool = True) -> None:
        super().__init__(cfg, causal)
        self.n_buckets = cfg.relative_attention_num_buckets
        self.max_distance = cfg.relative_attention_max_distance
        self.W_rel = nn.Parameter(torch.empty(self.n_buckets, cfg.n_heads, dtype=cfg.dtype))

    def buckets(self, offsets: Int[Tensor, "*axes"]) -> Int[Tensor, "*axes"]:
        """The bucket of each `key position - query position`."""
        n = self.n_buckets if self.causal else self.n_buckets // 2
        distance = (-offsets).clamp(min=0) if self.causal else offsets.abs()
        exact = n // 2
        # fp32, as in the reference: at the borders another width would choose another bucket.
        ratio = torch.log(distance.clamp(min=1).float() / exact)
        wide = exact + (ratio / math.log(self.max_distance / exact) * (n - exact)).long()
        found = torch.where(distance < exact, distance, wide.clamp(max=n - 1))
        return found if self.causal else found + n * (offsets > 0)

    def score_bias(
        self,
        queries: Int[Tensor, "batch pos"],
        keys: Int[Tensor, "batch key_pos"],
        dtype: torch.dtype,
    ) -> Float[Tensor, "batch head pos key_pos"]:
        """The scores of these positions."""
        bias = self.W_rel[self.buckets(keys[:, None, :] - queries[:, :, None])]
        return rearrange(bias, "batch pos key_pos head -> batch head pos key_pos").to(dtype)
