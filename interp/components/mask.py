"""Who may attend to whom, in the form that each kernel wants."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class AttentionMask:
    """Causal or bidirectional attention over keys, some of which may be padding.

    Attributes:
        n_queries: Destination positions in this run.
        n_keys: Source positions, those cached before this run included.
        causal: A destination sees itself and what is before it.
        window: How far a destination sees: sources less than this many positions away. None: all.
        real_keys: `[batch, key_pos]`, False for padding. None: no padding.
        device: Where the masks are made.
        places: With padding: which place each query `[batch, pos]` and each key `[batch, key_pos]`
            has among the real tokens of its row, as windows count those.
    """

    n_queries: int
    n_keys: int
    causal: bool
    real_keys: Bool[Tensor, "batch key_pos"] | None
    device: torch.device
    window: int | None = None
    places: tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch key_pos"]] | None = None

    @cached_property
    def allowed(self) -> Bool[Tensor, "batch 1 pos key_pos"]:
        """True where a destination may look. The batch axis is 1 where all rows agree."""
        shape = (1, 1, self.n_queries, self.n_keys)
        allowed = torch.ones(shape, dtype=torch.bool, device=self.device)
        if self.causal:
            allowed = allowed.tril(self.n_keys - self.n_queries)
        if self.window is not None:
            allowed = allowed & self._near(self.window)
        if self.real_keys is not None:
            allowed = allowed & self.real_keys[:, None, None, :]
        return allowed

    @cached_property
    def forbidden(self) -> Bool[Tensor, "batch 1 pos key_pos"]:
        """True where it may not."""
        return ~self.allowed

    def _near(self, window: int) -> Bool[Tensor, "batch 1 pos key_pos"]:
        if self.places is None:
            keys = torch.arange(self.n_keys, device=self.device)[None]
            queries = keys[:, self.n_keys - self.n_queries :]
        else:
            queries, keys = self.places
        return (queries[:, None, :, None] - keys[:, None, None, :]).abs() < window

    @cached_property
    def blind(self) -> Bool[Tensor, "batch 1 pos 1"] | None:
        """Destinations that may look nowhere (padding on the left). None: there are none."""
        return None if self.real_keys is None else ~self.allowed.any(-1, keepdim=True)

    @cached_property
    def for_fused(self) -> tuple[Bool[Tensor, "batch 1 pos key_pos"] | None, bool]:
        """`attn_mask` and `is_causal` of `scaled_dot_product_attention`."""
        narrow = self.window is not None and self.window < self.n_keys
        if self.real_keys is None and not narrow:
            if not self.causal or self.n_queries == 1:
                return None, False
            if self.n_queries == self.n_keys:
                return None, True
            return self.allowed, False
        # Kernels differ in what they make of a row without a single key, so such a row is shown
        # every key, and its result is set to zero after.
        return (self.allowed if self.blind is None else self.allowed | self.blind), False
