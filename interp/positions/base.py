"""What a positional encoding can do to a Transformer."""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.config import HookedTransformerConfig


class Rotation(Protocol):
    """Turns queries or keys; made once a run and used by every layer."""

    def __call__(
        self, x: Float[Tensor, "batch pos head d_head"]
    ) -> Float[Tensor, "batch pos head d_head"]:
        """`x`, turned by its positions."""


class PositionalEncoding(nn.Module):
    """Where position enters: added to the embedding, or turning queries and keys.

    A subclass says which of the two it does and overrides that method. Positions count real tokens
    from zero, so that padding on the left moves nothing.

    Attributes:
        adds_embedding: `embedding` is added to the token embedding.
        rotates: `rotation` turns queries and keys.
    """

    adds_embedding = False
    rotates = False

    def __init__(self, cfg: HookedTransformerConfig) -> None:
        super().__init__()
        self.n_ctx = cfg.n_ctx

    def check_length(self, length: int) -> None:
        """Raise `InputError` if positions up to `length` are not defined."""

    def embedding(self, positions: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
        """What is added to the residual stream at these positions."""
        raise NotImplementedError

    def rotation(
        self, positions: Int[Tensor, "batch pos"], length: int, dtype: torch.dtype
    ) -> Rotation | None:
        """How queries and keys turn at these positions, all below `length`; None: not at all."""
        return None


class NoPositions(PositionalEncoding):
    """No encoding: a causal model still learns order from its mask (Haviv et al. 2022)."""
