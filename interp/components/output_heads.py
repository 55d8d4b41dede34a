"""What stands between the last residual stream and the logits, beside a norm."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from interp.components.activations import ACTIVATIONS
from interp.components.norm import make_weighted_norm
from interp.config import HookedTransformerConfig
from interp.hooks import HookPoint


class MaskedLMHead(nn.Module):
    """norm(act(x W + b)): BERT's transformation before it unembeds (Devlin et al. 2019).

    Attributes:
        W: `[d_model, d_model]`; b `[d_model]`.
        ln: The norm.
        hook_pre: Before the non-linearity, `[batch, pos, d_model]`.
        hook_post: After it, before the norm.
    """

    def __init__(self, cfg: HookedTransformerConfig) -> None:
        super().__init__()
        assert cfg.head_act_fn is not None
        self.act_fn = ACTIVATIONS[cfg.head_act_fn]
        self.W = nn.Parameter(torch.empty(cfg.d_model, cfg.d_model, dtype=cfg.dtype))
        self.b = nn.Parameter(torch.zeros(cfg.d_model, dtype=cfg.dtype))
        self.ln = make_weighted_norm(cfg)
        self.hook_pre = HookPoint()
        self.hook_post = HookPoint()

    def forward(
        self, x: Float[Tensor, "batch pos d_model"], explicit_norm: bool | None = None
    ) -> Float[Tensor, "batch pos d_model"]:
        """What is unembedded; `explicit_norm` as for the norm."""
        pre = self.hook_pre(F.linear(x, self.W.T, self.b))
        return self.ln(self.hook_post(self.act_fn(pre)), explicit_norm)


class Pooler(nn.Module):
    """act(x W + b) of a sequence's first token: what speaks for the sequence (BERT).

    Attributes:
        W: `[d_model, d_model]`; b `[d_model]`.
        hook_pre: Before the non-linearity, `[batch, d_model]`.
        hook_post: After it.
    """

    def __init__(self, cfg: HookedTransformerConfig) -> None:
        super().__init__()
        assert cfg.head_act_fn is not None
        self.act_fn = ACTIVATIONS[cfg.head_act_fn]
        self.W = nn.Parameter(torch.empty(cfg.d_model, cfg.d_model, dtype=cfg.dtype))
        self.b = nn.Parameter(torch.zeros(cfg.d_model, dtype=cfg.dtype))
        self.hook_pre = HookPoint()
        self.hook_post = HookPoint()

    def forward(
        self,
        x: Float[Tensor, "batch pos d_model"],
        real: Bool[Tensor, "batch pos"] | None = None,
    ) -> Float[Tensor, "batch d_model"]:
        """What is unembedded; `real`: False for padding."""
        if real is None:
            first = x[:, 0]
        else:
            places = real.int().argmax(1)
            first = x[torch.arange(x.shape[0], device=x.device), places]
        return self.hook_post(self.act_fn(self.hook_pre(F.linear(first, self.W.T, self.b))))
