"""Tokens to vectors, and vectors to logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.components import by_hand
from interp.config import HookedTransformerConfig
from interp.errors import require
from interp.hooks import HookPoint

# Larger outputs get fresh pages from the system each time, and then the copy of the bias, which
# touches them in order, costs less than it saves (glibc's largest threshold for that is 32 MiB).
_REUSED_MEMORY = 32 << 20
# Looking at the bias costs about as much as adding it to so many rows.
_ROWS_TO_LOOK = 8


class Embed(nn.Module):
    """`W_E[token]`, times `cfg.embed_scale`.

    Attributes:
        W_E: `[d_vocab, d_model]`.
    """

    def __init__(self, cfg: HookedTransformerConfig) -> None:
        super().__init__()
        self.scale = cfg.embed_scale
        self.W_E = nn.Parameter(torch.empty(cfg.d_vocab, cfg.d_model, dtype=cfg.dtype))

    def forward(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
        """The tokens' vectors."""
        try:
            vectors = F.embedding(tokens, self.W_E)
        except (IndexError, RuntimeError, TypeError):
            by_hand.check_tokens("the embedding", tokens, len(self.W_E))
            raise
        return vectors if self.scale == 1.0 else vectors * self.scale


class TokenTypeEmbed(nn.Module):
    """`W_token_type[segment]`, for models that are told which of two texts a token is of (BERT).

    Attributes:
        W_token_type: `[n_token_types, d_model]`.
    """

    def __init__(self, cfg: HookedTransformerConfig) -> None:
        super().__init__()
        weight = torch.empty(cfg.n_token_types, cfg.d_model, dtype=cfg.dtype)
        self.W_token_type = nn.Parameter(weight)

    def forward(
        self,
        token_types: Int[Tensor, "batch pos"] | None,
        tokens: Int[Tensor, "batch pos"] | None = None,
    ) -> Float[Tensor, "batch pos d_model"]:
        """The segments' vectors; None: all of these tokens are of the first."""
        if token_types is None:
            require(tokens is not None, "segments or tokens must be given. Received neither")
            token_types = torch.zeros_like(tokens[:1, :1])  # type: ignore[index]
        try:
            return F.embedding(token_types, self.W_token_type)
        except (IndexError, RuntimeError, TypeError):
            by_hand.check_tokens("the embedding of segments", token_types, len(self.W_token_type))
            raise


class Unembed(nn.Module):
    """x W_U + b_U, with x times `cfg.logit_scale`.

    Attributes:
        W_U: `[d_model, d_vocab_out]`.
        b_U: `[d_vocab_out]`.
        hook_in: What is unembedded, `[batch, pos, d_model]`.
        hook_out: The logits, `[batch, pos, d_vocab_out]`, before any soft cap.
    """

    def __init__(self, cfg: HookedTransformerConfig) -> None:
        super().__init__()
        self.scale = cfg.logit_scale
        self._make_weight(cfg)
        self.b_U = nn.Parameter(torch.zeros(cfg.d_vocab_out, dtype=cfg.dtype))
        self.hook_in = HookPoint()
        self.hook_out = HookPoint()

    def _make_weight(self, cfg: HookedTransformerConfig) -> None:
        self.W_U = nn.Parameter(torch.empty(cfg.d_model, cfg.d_vocab_out, dtype=cfg.dtype))

    def forward(self, x: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_vocab_out"]:
        """The logits."""
        x = self.hook_in(x)
        x = x if self.scale == 1.0 else x * self.scale
        try:
            logits = F.linear(x, self.W_U.T, self._bias_for(x))
        except (AttributeError, RuntimeError, TypeError):
            by_hand.check_width("what the unembedding reads", x, self.W_U.shape[0])
            raise
        return self.hook_out(logits)

    def _bias_for(self, x: Float[Tensor, "*axes d_model"]) -> nn.Parameter | None:
        """b_U; None where it is all zeros (GPT-2, Llama), and finding that out pays.

        With a large vocabulary and few tokens adding it takes 5 to 15 % of the unembedding's time.
        It may change at any time, so it is looked at each time; on a GPU that would be a wait, and
        the product adds it at no cost.
        """
        bias = self.b_U
        rows = x.numel() // x.shape[-1]
        if (
            rows < _ROWS_TO_LOOK
            or not x.is_cpu
            or rows * bias.nbytes >= _REUSED_MEMORY
            or type(bias) is not nn.Parameter
            or (bias.requires_grad and torch.is_grad_enabled())
            or torch.compiler.is_compiling()
        ):
            return bias
        return bias if torch.count_nonzero(bias).item() else None


class TiedUnembed(Unembed):
    """An unembedding that is the embedding transposed: the same tensor, trained as one."""

    def __init__(self, cfg: HookedTransformerConfig, embed: Embed) -> None:
        super().__init__(cfg)
        # In a list, so that torch does not count the embedding as this module's own.
        self._embed = [embed]

    def _make_weight(self, cfg: HookedTransformerConfig) -> None:
        pass

    @property
    def W_U(self) -> Float[Tensor, "d_model d_vocab_out"]:  # type: ignore[override]
        """The embedding, transposed."""
        return self._embed[0].W_E.T
