"""Which tokens each component writes towards, on its own: the lens with the norm's scale held.

With the scale of the final norm as it was, the logits are a sum over components and constants. What
one of them adds to all logits alike changes no probability, so it is given less its mean over the
vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import require, require_one_of, require_whole
from interp.precision import wide
from interp.run.slicing import SliceInput

if TYPE_CHECKING:
    from interp.cache import ActivationCache


@dataclass(frozen=True)
class ComponentReading:
    """What each component adds to the logits, less the mean over the vocabulary.

    Attributes:
        labels: Of the components, as the cache's decomposition names them.
        top_tokens, top_values: What each raises most, in logits, `[component, batch, pos, k]`.
        bottom_tokens, bottom_values: What each lowers most, likewise.
        target_values: What each adds to the target's, `[component, batch, pos]`; None: no target.
    """

    labels: list[str]
    top_tokens: Int[Tensor, "component batch pos k"]
    top_values: Float[Tensor, "component batch pos k"]
    bottom_tokens: Int[Tensor, "component batch pos k"]
    bottom_values: Float[Tensor, "component batch pos k"]
    target_values: Float[Tensor, "component batch pos"] | None


@torch.no_grad()
def component_lens(
    cache: ActivationCache,
    target: int | None = None,
    *,
    by: str = "layer",
    top_k: int = 5,
    pos_slice: SliceInput = None,
    max_bytes: int = 1 << 28,
) -> ComponentReading:
    """Read what each component wrote through the final norm as it was, and the unembedding.

    Where norms lie between a component and the last stream, it passes those first, scales held too.
    Before any soft cap, all components and their biases sum to the logits less the constants that
    the final norm's and the unembedding's biases add (all taken less their mean).

    Args:
        cache: Of a run that recorded everything, with its batch axis.
        target: A token to follow.
        by: `layer`: attention and MLP of each layer, and the embeddings (`decompose_resid`);
            `head`: heads, and the rest as one (`stack_head_results`).
        top_k: How many tokens to give at each end.
        pos_slice: Which positions to read, as a list, slice or tuple.
        max_bytes: How much memory the logits that are there at once may take.

    Raises:
        InputError: for a model whose logits are not linear in its last stream, a cache without its
            batch axis, or a token that is not in the vocabulary.
        KeyError: if the cache lacks a hook.
    """
    model = cache.model
    cfg = model.cfg
    require(cfg.head == "lm", f"components add up to logits with head='lm'. This is {cfg.head!r}")
    require(cache.has_batch_dim, "component_lens needs a cache with its batch axis")
    require_one_of("by", by, ("layer", "head"))
    require_whole("top_k", top_k, 1)
    require(top_k <= cfg.d_vocab_out, f"top_k must not exceed {cfg.d_vocab_out}. Received {top_k}")
    require_whole("max_bytes", max_bytes, 1)
    require(not isinstance(pos_slice, int), f"pos_slice must keep the axis. Received {pos_slice!r}")
    if target is not None:
        require_whole("target", target, 0)
        fits = target < cfg.d_vocab_out
        require(fits, f"target must lie in 0 … {cfg.d_vocab_out - 1}. Received {target}")
    if by == "layer":
        made = cache.decompose_resid(apply_ln=True, pos_slice=pos_slice, return_labels=True)
    else:
        made = cache.stack_head_results(
            apply_ln=True, pos_slice=pos_slice, return_labels=True, incl_remainder=True
        )
    assert isinstance(made, tuple)
    stack, labels = made
    W_U = wide(model.unembed.W_U.detach()) * cfg.logit_scale
    W_U = W_U - W_U.mean(-1, keepdim=True)  # so that every row of logits has the mean 0
    size = cfg.d_vocab_out * W_U.element_size() * 2
    rows = stack.flatten(0, 2)
    parts = []
    for some in rows.split(max(max_bytes // size, 1)):
        logits = wide(some) @ W_U
        top, bottom = logits.topk(top_k), logits.topk(top_k, largest=False)
        chosen = logits[:, [] if target is None else [target]]
        parts.append((top.indices, top.values, bottom.indices, bottom.values, chosen))
    found = [torch.cat(x).unflatten(0, stack.shape[:3]) for x in zip(*parts, strict=True)]
    top, raised, bottom, lowered, followed = found
    target_values = None if target is None else followed[..., 0]
    return ComponentReading(labels, top, raised, bottom, lowered, target_values)
