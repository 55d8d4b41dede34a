"""From any vector of the residual stream to logits, as the model itself reads the last one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from interp.components.norm import Norm
from interp.errors import require
from interp.precision import wide

if TYPE_CHECKING:
    from interp.config import HookedTransformerConfig
    from interp.transformer import HookedTransformer

_BEHIND_BLOCKS = ("ln_final.", "decoder.ln_final.", "mlm_head.", "unembed.")


def why_not(cfg: HookedTransformerConfig) -> str | None:
    """Why a model of this kind has no logit lens; None: it has one."""
    if cfg.classifies:
        return f"its head reads one vector for the whole sequence (head={cfg.head!r})"
    return None


def require_lens(model: HookedTransformer) -> None:
    """Check that every position of the stream can be read as the last stream is.

    Raises:
        InputError: for a model whose head reads one vector per sequence, or one with hooks attached
            behind its last block, which act on what that gives alone.
    """
    reason = why_not(model.cfg)
    require(reason is None, f"a lens reads every position by itself, but of this model {reason}")
    edited = sorted(n for n in model.watched_hooks()[1] if n.startswith(_BEHIND_BLOCKS))
    require(
        not edited,
        "a lens goes through the final norm and the unembedding as they are, without hooks. "
        f"Hooks are attached to {', '.join(edited)}",
    )


def read_out(
    model: HookedTransformer,
    vectors: Float[Tensor, "*axes d_model"],
    scale: Float[Tensor, "*axes 1"] | None = None,
) -> Float[Tensor, "*axes d_vocab_out"]:
    """The logits that the model would give if its last residual stream were these vectors.

    The final norm, what a masked-language model has before its unembedding, the unembedding with
    its bias and `cfg.logit_scale`, and the soft cap. Gradients flow to the vectors and not to the
    weights.

    Args:
        model: See `require_lens`.
        vectors: Of the residual stream, in the model's dtype.
        scale: What the final norm divides by. None: each vector's own, recomputed.
    """
    cfg, norm = model.cfg, model.main_stack.ln_final
    if scale is not None and isinstance(norm, Norm):
        x = _divided(norm, vectors, scale)
    else:
        x = _normalised(norm, vectors)
    if cfg.head == "mlm":
        head = model.mlm_head
        x = head.act_fn(F.linear(x, head.W.detach().T, head.b.detach()))
        x = _normalised(head.ln, x)
    x = x if cfg.logit_scale == 1.0 else x * cfg.logit_scale
    logits = F.linear(x, model.unembed.W_U.detach().T, model.unembed.b_U.detach())
    cap = cfg.output_logits_soft_cap
    return cap * torch.tanh(logits / cap) if cap > 0 else logits


def _normalised(norm: nn.Module, x: Tensor) -> Tensor:
    if not isinstance(norm, Norm):
        return x
    w, b = (None if p is None else p.detach() for p in (norm.w, norm.b))
    if norm.centres:
        return F.layer_norm(x, (norm.length,), w, b, norm.eps)
    return F.rms_norm(x, (norm.length,), w, norm.eps)


def _divided(norm: Norm, x: Tensor, scale: Tensor) -> Tensor:
    """The same with the scale given."""
    centred = x - x.mean(-1, keepdim=True) if norm.centres else x
    out = (centred / scale).to(x.dtype)
    out = out if norm.w is None else out * norm.w.detach()
    return out if norm.b is None else out + norm.b.detach()


def final_scale(
    model: HookedTransformer, final: Float[Tensor, "*axes d_model"]
) -> Float[Tensor, "*axes 1"] | None:
    """What the final norm divides this last residual stream by, in at least fp32; None: no norm."""
    norm = model.main_stack.ln_final
    if not isinstance(norm, Norm):
        return None
    x = wide(final)
    if norm.centres:
        x = x - x.mean(-1, keepdim=True)
    return (x.square().mean(-1, keepdim=True) + norm.eps).sqrt()
