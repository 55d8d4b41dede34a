"""Learned positions that only queries and keys see (Press et al. 2021, Shortformer, §4)."""

from __future__ import annotations

from interp.positions.learned import LearnedPositions


class ShortformerPositions(LearnedPositions):
    """`W_pos[t]` is added to what queries and keys are made from, after the norm, in every layer.

    Values and the residual stream hold no positions. Not defined past `n_ctx`.

    Attributes:
        W_pos: `[n_ctx, d_model]`.
    """

    adds_embedding = False
    adds_to_queries_and_keys = True
