"""LayerNorm and RMSNorm, with weights or without, whose scale and result can be hooked."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from interp.config import HookedTransformerConfig
from interp.hooks import HookPoint

_WIDE = (torch.float32, torch.float64)


class Norm(nn.Module):
    """A norm over the last axis.

    `LN`:  (x - mean) / scale * w + b   (Ba et al. 2016)
    `RMS`: x / scale * w                (Zhang & Sennrich 2019)
    `LNPre`, `RMSPre`: the same without w and b, which have been folded into what reads the result.

    scale is √(mean square + eps) of what it divides. `hook_normalized` is what was divided, before
    w and b. Half-precision inputs are normalised in fp32.

    Attributes:
        w, b: Weight `[d]` and (LN only) bias `[d]`.
        hook_scale: `[..., 1]`.
        hook_normalized: `[..., d]`.
    """

    def __init__(self, cfg: HookedTransformerConfig, length: int | None = None) -> None:
        super().__init__()
        kind = cfg.normalization_type
        assert kind is not None, "a model without norms has Identity in their place"
        self.eps = cfg.eps
        self.length = length or cfg.d_model
        self.centres = cfg.norm_centres
        self.w = self.b = None
        if kind in ("LN", "RMS"):
            self.w = nn.Parameter(torch.ones(self.length, dtype=cfg.dtype))
        if kind == "LN":
            self.b = nn.Parameter(torch.zeros(self.length, dtype=cfg.dtype))
        self.hook_scale = HookPoint()
        self.hook_normalized = HookPoint()

    def forward(
        self, x: Float[Tensor, "*axes d"], explicit: bool = False
    ) -> Float[Tensor, "*axes d"]:
        """Normalise; `explicit` spells scale and result out, so that their hooks fire."""
        if explicit:
            return self._spelled_out(x)
        if self.centres:
            return F.layer_norm(x, (self.length,), self.w, self.b, self.eps)
        return F.rms_norm(x, (self.length,), self.w, self.eps)

    def _spelled_out(self, x: Float[Tensor, "*axes d"]) -> Float[Tensor, "*axes d"]:
        dtype = x.dtype
        x = x if dtype in _WIDE else x.float()
        if self.centres:
            x = x - x.mean(-1, keepdim=True)
        scale = self.hook_scale((x.pow(2).mean(-1, keepdim=True) + self.eps).sqrt())
        x = self.hook_normalized(x / scale).to(dtype)
        if self.w is None:
            return x
        return x * self.w if self.b is None else x * self.w + self.b


class NoNorm(nn.Module):
    """Stands where a model without norms would have one."""

    def forward(self, x: Tensor, explicit: bool = False) -> Tensor:
        """The input itself."""
        return x


def make_norm(cfg: HookedTransformerConfig) -> Norm | NoNorm:
    """The norm that the config names."""
    return NoNorm() if cfg.normalization_type is None else Norm(cfg)
