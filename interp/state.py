"""Weights by name, from TransformerLens's state dicts to this model's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from interp.config import HookedTransformerConfig
from interp.errors import InputError

if TYPE_CHECKING:
    from torch import nn

# Tables that TransformerLens keeps beside its weights and that this model computes when needed.
_BUFFERS = ("mask", "IGNORE", "rotary_sin", "rotary_cos")


def adapt_state_dict(
    state_dict: Mapping[str, Any], cfg: HookedTransformerConfig
) -> dict[str, Any]:
    """The same weights without TransformerLens's buffers and without a copy of a tied embedding.

    Raises:
        InputError: if a tied model is given an unembedding that is not its embedding transposed.
    """
    adapted = {k: v for k, v in state_dict.items() if k.rsplit(".", 1)[-1] not in _BUFFERS}
    if cfg.tie_word_embeddings and "unembed.W_U" in adapted:
        W_U, W_E = adapted.pop("unembed.W_U"), adapted.get("embed.W_E")
        if W_E is None or W_U.shape != W_E.T.shape or not torch.equal(W_U, W_E.T):
            raise InputError(
                "this model's embeddings are tied, but unembed.W_U is not embed.W_E transposed. "
                "Load into a model with tie_word_embeddings=False."
            )
    return adapted


def weight_hash(model: nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of all weights: equal for equal models."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}\n".encode())
        digest.update(_bytes(weight))
    return digest.hexdigest()


def _bytes(weight: Tensor) -> bytes:
    flat = weight.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().tobytes()
