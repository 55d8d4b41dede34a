"""AtP*: attribution patching with corrections for saturated attention and for cancellation.

A first-order estimate misses two kinds of places (Kramár et al. 2024, AtP*: An efficient and
scalable method for localizing LLM behaviour to components, §3):

- *QK fix*, for queries and keys. Where attention is saturated its gradient is next to nothing,
  however much another query would change it. So the pattern with the patched query (or key) is
  computed, and only what follows is taken to first order:

      change(place) = Σ over its rows (pattern with the patch − pattern) · ∂ metric / ∂ pattern

- *GradDrop*, for all places. A direct and an indirect effect may cancel in the gradient. So for
  every layer ℓ the gradient is also taken with nothing flowing back through what that layer adds to
  the residual stream, and

      size(place) = 1 / n Σ over ℓ |change(place) by the gradient without layer ℓ|,

  by prompt. It is a size without a sign. Of a place inside a layer, such as a head, n is the number
  of layers less 1, as published: without its own layer it has no gradient. The residual stream and
  embeddings, which are no nodes there, have one without any layer: n is the number of layers.

Cost: the QK fix takes two more runs forward, and O(pos²) for every head, for keys too: of all other
keys' scores, patching one key needs their log-sum-exp and their mean gradient alone. GradDrop takes
a backward pass for each layer instead of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.attribution.attribution_patching import (
    Estimate,
    Places,
    as_sites,
    difference,
    put_in,
)
from interp.attribution.gradients import Trace, traced
from interp.errors import require
from interp.patching.base import inside_a_run
from interp.patching.grids import Sites
from interp.patching.metrics import Metric
from interp.patching.read_out import LogitsFunction
from interp.patching.sweeps import Source
from interp.precision import wide

if TYPE_CHECKING:
    from interp.tokenization.text import TextInput
    from interp.transformer import HookedTransformer


def atp_star(
    model: HookedTransformer,
    tokens: TextInput | Int[Tensor, "batch pos"],
    source: Source,
    sites: Sites | str,
    metric: Metric | LogitsFunction,
    attention_mask: Int[Tensor, "batch pos"] | None = None,
    token_type_ids: Int[Tensor, "batch pos"] | None = None,
    qk_fix: bool = True,
    grad_drop: bool = True,
) -> Estimate:
    """Estimate the size of what `patching.sweep` with the same arguments would find.

    Args:
        model: A single stack, with two layers or more if `grad_drop`.
        tokens, source, sites, metric, attention_mask, token_type_ids: As in `estimate`.
        qk_fix: Correct the estimates of queries (`q`) and keys (`k`) for saturated attention; it
            changes nothing at other sites. With `positions="all"` the pattern is that of all
            positions' keys patched together.
        grad_drop: Correct for cancellation. Estimates are sizes then, without a sign.

    Returns:
        The estimate, without a sign (`signed=False`) if `grad_drop`.

    Raises:
        InputError: for an encoder-decoder, GradDrop in a model of one layer, the QK fix where one
            head's query changes the others' (`qk_norm="full"`) or forward hooks change scores or
            patterns, and as `estimate`.
    """
    cfg = model.cfg
    require(
        cfg.architecture != "encoder-decoder",
        "AtP* needs a single stack of layers. This is an encoder-decoder",
    )
    require(
        not grad_drop or cfg.n_layers > 1,
        "GradDrop leaves out one layer of several. This model has one: use grad_drop=False",
    )
    sites = as_sites(model, sites)
    parts = {hook.rsplit(".", 1)[-1] for hook in sites.hooks}
    fixed = qk_fix and parts <= {"hook_q", "hook_k"}
    dropped = _Dropped()
    drops = dropped.hooks(model) if grad_drop else []
    inputs = (tokens, attention_mask, None, None, token_type_ids)
    hooks = read = list(sites.hooks)
    if fixed:
        _check_fix(model)
        read = [_beside(hook, "hook_pattern") for hook in hooks]
        hooks = hooks + [_beside(hook, name) for hook in sites.hooks for name in _OF_ATTENTION]
    with traced(model, inputs, hooks, metric, bwd_hooks=drops) as trace, torch.no_grad():
        places, base = Places(sites, trace.run), trace.activations
        given = {hook: put_in(source, trace.run, sites, hook) for hook in sites.hooks}
        by_prompt = trace.value.ndim > 0
        if fixed:
            patched = _PatchedAttention(model, trace, sites, given, base)
        found = []
        for layer in range(cfg.n_layers) if grad_drop else [None]:
            dropped.layer = layer
            gradients = trace.gradients(read, again=layer not in (None, cfg.n_layers - 1))
            if fixed:
                products = (patched.changes(hook, gradients) for hook in sites.hooks)
            else:
                products = (
                    difference(given[hook], base[hook], hook) * wide(gradients[hook])
                    for hook in sites.hooks
                )
            found.append(places.lay_out(products, by_prompt))
        change = found[0]
        if grad_drop:
            n = cfg.n_layers - _inside_a_layer(model, sites.hooks[0])
            change = torch.stack(found).abs().sum(0) / n
        grid = places.grid
        return Estimate(change, trace.value, grid.axis_names, grid.labels, signed=not grad_drop)


class _Dropped:
    """Backward hooks through which nothing flows back where a layer adds to the stream.

    Attributes:
        layer: Which layer's additions are left out of gradients now; None: no layer's.
    """

    layer: int | None = None

    def hooks(self, model: HookedTransformer) -> list[tuple[str, Any]]:
        """What to attach for the run."""

        def drop(gradient: Tensor, hook: Any) -> Tensor | None:
            return torch.zeros_like(gradient) if hook.layer() == self.layer else None

        names = (f"blocks.{i}.{n}" for i in range(model.cfg.n_layers) for n in _ADDED)
        return [(name, drop) for name in names if name in model.hook_dict]


def _inside_a_layer(model: HookedTransformer, hook: str) -> bool:
    """Whether all that a tensor does goes through what its own layer adds to the stream."""
    if not hook.startswith("blocks."):
        return False
    norms = ("ln1.", "ln2.") if model.cfg.norm_placement == "post" else ()  # of the stream itself
    return not hook.split(".", 2)[2].startswith(("hook_resid_", *norms))


_ADDED = ("hook_attn_out", "hook_mlp_out")
_OF_ATTENTION = ("hook_q", "hook_k", "hook_attn_scores", "hook_pattern")


def _beside(hook: str, name: str) -> str:
    """Another hook of the same attention layer."""
    return f"{hook.rsplit('.', 1)[0]}.{name}"


def _check_fix(model: HookedTransformer) -> None:
    require(
        model.cfg.qk_norm != "full",
        "the QK fix needs heads whose queries and keys are their own. With qk_norm='full' they are "
        "normalised together",
    )
    edited = [
        name
        for name in model.watched_hooks()[1]
        if name.endswith(("hook_attn_scores", "hook_pattern")) and model.hook_dict[name].fwd_hooks
    ]
    require(
        not edited, f"the QK fix needs scores and patterns that no hook changes. Received {edited}"
    )


class _PatchedAttention:
    """Patterns with single queries or keys of another run.

    Scores are the model's own (rotation, norms of queries and keys, caps and biases included): it
    is run once more, with these queries in every layer and the base's keys, or the reverse.
    """

    def __init__(
        self,
        model: HookedTransformer,
        trace: Trace,
        sites: Sites,
        given: Mapping[str, Tensor | float],
        base: Mapping[str, Tensor],
    ) -> None:
        self.model, self.base = model, base
        self.together = sites.chosen["pos"] == "all"
        held = self.held = dict[str, Tensor]()
        for hook in sites.hooks:
            for name in ("hook_q", "hook_k"):
                beside = _beside(hook, name)
                held[beside] = base[beside]
            x = given[hook]
            held[hook] = torch.full_like(base[hook], x) if isinstance(x, float) else x
        wanted = [_beside(h, n) for h in sites.hooks for n in ("hook_attn_scores", "hook_pattern")]

        def hold(x: Tensor, hook: Any) -> Tensor:
            return held[hook.name].to(x.dtype).expand_as(x)

        with inside_a_run(model), model.hooks([(name, hold) for name in held]):
            _, self.patched = model.record(
                **trace.run.inputs, names_filter=wanted, stop_at_layer=model.cfg.n_layers
            )

    def changes(
        self, hook: str, gradients: Mapping[str, Tensor]
    ) -> Float[Tensor, "batch pos head"]:
        """The estimated change by each position's query or key of every head at this hook."""
        scores, pattern = (_beside(hook, n) for n in ("hook_attn_scores", "hook_pattern"))
        gradient = wide(gradients[pattern])
        of_keys = hook.endswith("hook_k")
        if of_keys and not self.together:
            block: Any = self.model.main_stack.blocks[self.model.hook_dict[hook].layer()]
            found = one_key_patched(
                wide(self.base[scores]), wide(self.patched[scores]), gradient, block.attn.sinks
            )
        else:
            change = wide(self.patched[pattern]) - wide(self.base[pattern])
            found = (change * gradient).sum(-2 if of_keys else -1)
        n_heads = self.base[hook].shape[2]
        # Heads that share keys are patched together: [batch, head, pos] → [batch, kv_head, pos].
        found = found.unflatten(1, (n_heads, -1)).sum(2).transpose(1, 2)
        # Where nothing is patched nothing changes: another run would leave some rounding.
        same = (self.held[hook] == self.base[hook]).all(-1)
        if of_keys and self.together:
            same = same.all(1, keepdim=True)
        return found.masked_fill(same, 0.0)


def one_key_patched(
    scores: Float[Tensor, "batch head pos key_pos"],
    patched: Float[Tensor, "batch head pos key_pos"],
    gradient: Float[Tensor, "batch head pos key_pos"],
    sinks: Float[Tensor, "head"] | None = None,
) -> Float[Tensor, "batch head key_pos"]:
    """Σ over rows of (pattern with one key patched − pattern) · gradient, for each key.

    With p the share of key t, g its gradient, and a the mean gradient over the other keys (weighted
    by their shares among themselves), a row gives p g + (1 − p) a; patching key t changes p alone,
    so the row's change is (p′ − p)(g − a), with p = sigmoid(score − log Σ exp of the others). The
    others' sum is S − exp(score), S being the whole row's, but for the row's largest, where that
    would cancel: there it is summed anew.

    Args:
        scores: The base's, −inf where a row may not look.
        patched: Column t: with key t patched.
        gradient: ∂ metric / ∂ pattern.
        sinks: Scores that take their share and give nothing.
    """
    n_keys = scores.shape[-1]
    allowed: Bool[Tensor, "batch head pos key_pos"] = scores > -torch.inf
    every, pull = scores, gradient.masked_fill(~allowed, 0.0)
    if sinks is not None:
        column = sinks.to(scores)[:, None, None].expand(*scores.shape[:-1], 1)
        every = torch.cat([scores, column], -1)
        pull = torch.cat([pull, torch.zeros_like(column)], -1)
    largest, where = every.max(-1, keepdim=True)
    largest = largest.masked_fill(largest == -torch.inf, 0.0)  # a row that may look nowhere
    weights = (every - largest).exp()
    weighted = weights * pull
    others = weights.sum(-1, keepdim=True) - weights
    mean = (weighted.sum(-1, keepdim=True) - weighted) / others
    total = largest + others.log()
    # The same for the row's largest, without it.
    rest = every.scatter(-1, where, -torch.inf)
    alone = rest.amax(-1, keepdim=True) == -torch.inf
    shares = rest.masked_fill(alone, 0.0).softmax(-1).masked_fill(alone, 0.0)
    mean = mean.scatter(-1, where, (shares * pull).sum(-1, keepdim=True))
    total = total.scatter(-1, where, rest.logsumexp(-1, keepdim=True))
    mean, total = mean[..., :n_keys], total[..., :n_keys]
    share = (scores - total).sigmoid()
    change = ((patched - total).sigmoid() - share) * (pull[..., :n_keys] - mean)
    return torch.where(allowed, change, 0.0).sum(-2)
