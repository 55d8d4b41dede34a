"""What a positional encoding can do to a Transformer."""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.config import HookedTransformerConfig
from interp.errors import InputError


class Rotation(Protocol):
    """Turns queries or keys; made once a run and used by every layer."""

    def __call__(
        self, x: Float[Tensor, "batch pos head d_head"]
    ) -> Float[Tensor, "batch pos head d_head"]:
        """`x`, turned by its positions."""

    def to(self, device: torch.device) -> Rotation:
        """The same on another device."""


class PositionalEncoding(nn.Module):
    """Where position enters: the residual stream, queries and keys, or the scores.

    A subclass says what it does and overrides that method. Positions count real tokens from zero,
    so that padding on the left moves nothing. All of this is for attention within a sequence: a
    decoder's cross-attention sees no positions but those in the streams that it reads.

    Attributes:
        adds_embedding: `embedding` is added to the token embedding.
        adds_to_queries_and_keys: `embedding` is added to what queries and keys are made from.
        rotates: `rotation` turns queries and keys.
        biases_scores: `score_bias` is added to the scores.
        depends_on_length: Where a token is placed depends on how long its own text is.
    """

    adds_embedding = False
    adds_to_queries_and_keys = False
    rotates = False
    biases_scores = False
    depends_on_length = False

    def __init__(self, cfg: HookedTransformerConfig, causal: bool = True) -> None:
        super().__init__()
        self.n_ctx = cfg.n_ctx
        self.causal = causal

    def forward(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
        """The vectors of these tokens' positions, counted from zero, whatever the tokens are.

        Raises:
            InputError: if positions are no vectors here, and for other than `[batch, pos]`.
        """
        if not (self.adds_embedding or self.adds_to_queries_and_keys):
            raise InputError(
                "pos_embed gives vectors where positions are added to the residual stream or to "
                "what queries and keys are made from. Here they act inside attention, if at all: "
                "hook_rot_q and hook_rot_k, or hook_pos_bias, show it."
            )
        if not isinstance(tokens, Tensor) or tokens.ndim != 2:
            found = tuple(tokens.shape) if isinstance(tokens, Tensor) else type(tokens).__name__
            raise InputError(f"pos_embed reads tokens [batch, pos]. Received {found}.")
        batch, n = tokens.shape
        self.check_length(n)
        own = next(self.parameters(), tokens)
        return self.embedding(torch.arange(n, device=own.device)[None], n).expand(batch, -1, -1)

    def check_length(self, length: int) -> None:
        """Raise `InputError` if positions up to `length` are not defined."""

    def check_cached_length(self, length: int) -> None:
        """Raise `InputError` if a text this long places its earlier tokens anew.

        What a cache holds of them would then be what a shorter text makes of them.
        """

    def embedding(
        self, positions: Int[Tensor, "batch pos"], length: int
    ) -> Float[Tensor, "batch pos d_model"]:
        """The vectors of these positions, all below `length`."""
        raise NotImplementedError

    def rotation(
        self,
        positions: Int[Tensor, "batch pos"],
        length: int,
        dtype: torch.dtype,
        local: bool = False,
    ) -> Rotation | None:
        """How queries and keys turn at these positions, all below `length`; None: not at all.

        `local`: in layers with a window. Where it matters how long a text is, `positions` are those
        of whole texts.
        """
        return None

    def score_bias(
        self,
        queries: Int[Tensor, "batch pos"],
        keys: Int[Tensor, "batch key_pos"],
        dtype: torch.dtype,
    ) -> Float[Tensor, "batch head pos key_pos"]:
        """What is added to the scores of queries and keys at these positions."""
        raise NotImplementedError


class NoPositions(PositionalEncoding):
    """No encoding: a causal model still learns order from its mask (Haviv et al. 2022)."""
