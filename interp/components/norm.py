"""LayerNorm and RMSNorm, with weights or without, whose scale and result can be hooked."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from interp.components import by_hand
from interp.config import HookedTransformerConfig, NormalizationType
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
        w, b: Weight `[d]` and (LN only) bias `[d]`; where the heads have norms of their own,
            `[head, d]`.
        hook_scale: `[..., 1]`.
        hook_normalized: `[..., d]`.
    """

    def __init__(
        self,
        cfg: HookedTransformerConfig,
        kind: NormalizationType,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        shape = shape or (cfg.d_model,)
        self.eps = cfg.eps
        self.length = shape[-1]
        self.centres = kind in ("LN", "LNPre")
        self.w = self.b = None
        if kind in ("LN", "RMS"):
            self.w = nn.Parameter(torch.ones(shape, dtype=cfg.dtype))
        if kind == "LN":
            self.b = nn.Parameter(torch.zeros(shape, dtype=cfg.dtype))
        self.hook_scale = HookPoint()
        self.hook_normalized = HookPoint()

    def forward(
        self, x: Float[Tensor, "*axes d"], explicit: bool | None = None
    ) -> Float[Tensor, "*axes d"]:
        """Normalise; `explicit` spells scale and result out, so that their hooks fire.

        A run says whether; None: if something is attached to them.
        """
        if explicit is None:
            by_hand.check_width("what this norm reads", x, self.length)
            with by_hand.apart(self):
                watched = self.hook_scale.is_watched or self.hook_normalized.is_watched
                return self.forward(x, watched)
        if explicit or (self.w is not None and self.w.ndim > 1):
            return self.spelled_out(x, self.w, self.b)
        if self.centres:
            return F.layer_norm(x, (self.length,), self.w, self.b, self.eps)
        return F.rms_norm(x, (self.length,), self.w, self.eps)

    def spelled_out(
        self,
        x: Float[Tensor, "*axes d"],
        w: Float[Tensor, "d"] | None,
        b: Float[Tensor, "d"] | None,
    ) -> Float[Tensor, "*axes d"]:
        """Normalise step by step, with these weights."""
        dtype = x.dtype
        x = x if dtype in _WIDE else x.float()
        if self.hook_scale.intervenes or not self.centres:
            x = x - x.mean(-1, keepdim=True) if self.centres else x
            scale = self.hook_scale((x.pow(2).mean(-1, keepdim=True) + self.eps).sqrt())
            x = x / scale
        else:
            # One pass makes both, where nobody changes the scale or asks for its gradient.
            x, _, inverse = torch.native_layer_norm(x, (x.shape[-1],), None, None, self.eps)
            self.hook_scale(inverse.reciprocal())
        x = self.hook_normalized(x).to(dtype)
        if w is None:
            return x
        return x * w if b is None else torch.addcmul(b, x, w)


class NoNorm(nn.Module):
    """Stands where a model without norms would have one."""

    def forward(
        self, x: Float[Tensor, "*axes d"], explicit: bool | None = None
    ) -> Float[Tensor, "*axes d"]:
        """The input itself."""
        return x


def make_norm(cfg: HookedTransformerConfig) -> Norm | NoNorm:
    """The norm that the config names."""
    kind = cfg.normalization_type
    return NoNorm() if kind is None else Norm(cfg, kind)


def make_weighted_norm(cfg: HookedTransformerConfig) -> Norm | NoNorm:
    """The same with its weights, where nothing reads its output that could take them."""
    kind = cfg.norm_kind_with_weights
    return NoNorm() if kind is None else Norm(cfg, kind)
