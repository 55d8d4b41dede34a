"""Direct logit attribution: the final logit as a sum over the components that wrote it.

The logit of a token is linear in the final residual stream once the final norm's scale is held at
the value it had. Each component's share is its output projected on one direction per token, so a
head costs a product with W_O u, `[d_head]`, and its `[d_model]` output is never built.

Where norms lie between a component and the final stream (post-norm, sandwich) their scales are held
too: the direction is pulled back through each of them, which leaves one direction for all positions
and one scale per position. A soft cap on the logits comes after all this and is left out.

Source: Elhage et al. 2021, A Mathematical Framework for Transformer Circuits; Wang et al. 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from interp.attribution.logit_direction import LogitDirection, LogitView, PerPosition
from interp.components.norm import Norm
from interp.errors import require
from interp.frozen_norms import Step, steps_before
from interp.precision import wide

if TYPE_CHECKING:
    from interp.cache import ActivationCache
    from interp.transformer import HookedTransformer

Kind = Literal["embed", "head", "cross_head", "mlp", "bias"]


@dataclass(frozen=True, slots=True)
class Attributed:
    """One component of a `DirectAttribution`.

    Attributes:
        label: `embed`, `pos_embed`, `token_type_embed`, `L0H3`, `L0C3` (cross-attention), `L0MLP`,
            or a bias: `b_O` (of all layers together), `norm_bias` (of the norms on the way),
            `ln_final.b`, `b_U`.
        kind: embed, head, cross_head, mlp or bias.
        layer, head: Where it is; None where that has no meaning.
    """

    label: str
    kind: Kind
    layer: int | None = None
    head: int | None = None


class MLPView(NamedTuple):
    """How what W_out and b_out of one MLP write is seen from a logit.

    Attributes:
        view: In front of the norm of what the MLP adds, where there is one.
        norm_bias: What that norm's bias adds, `[batch, pos]`.
    """

    view: LogitView
    norm_bias: PerPosition


@dataclass(frozen=True, slots=True)
class DirectAttribution:
    """What each component adds to a logit at every destination position.

    All but `direction` and what `head_views` and `mlp_views` have of it is where the records are.

    Attributes:
        components: What the rows of `values` are.
        values: `[component, batch, pos]`; they sum to the logit (difference).
        direction: The direction that was projected on.
        scale: The final norm's scale, `[batch, pos, 1]`; ones where there is no norm.
        head_views: For each layer, how its self-attention's heads are read: a direction and a
            scale, in place of `direction` and `scale` where norms lie on their way.
        mlp_views: The same for each layer's neurons; empty for a model without MLPs.
    """

    components: list[Attributed]
    values: Float[Tensor, "component batch pos"]
    direction: LogitDirection
    scale: Float[Tensor, "batch pos 1"]
    head_views: list[LogitView]
    mlp_views: list[MLPView]

    def total(self) -> PerPosition:
        """The sum of all components: the logit."""
        return self.values.sum(0)

    def heads(self, n_layers: int, n_heads: int) -> Float[Tensor, "layer head batch pos"]:
        """The heads' rows alone."""
        rows = [i for i, c in enumerate(self.components) if c.kind == "head"]
        return self.values[rows].unflatten(0, (n_layers, n_heads))


def hooks_needed(model: HookedTransformer) -> list[str]:
    """The hooks that `direct_logit_attribution` reads from a cache."""
    stack, cfg = model.main_stack, model.cfg
    names = ["hook_embed"]
    if stack.pos_embed.adds_embedding:
        names.append("hook_pos_embed")
    if cfg.n_token_types:
        names.append("hook_token_type_embed")
    if cfg.post_embedding_ln and isinstance(stack.get_submodule("ln_embed"), Norm):
        names.append("ln_embed.hook_scale")
    for step in steps_before(stack, cfg.n_layers):
        block = f"blocks.{step.layer}."
        out = "hook_mlp_out" if step.part == "mlp" else f"{step.part}.hook_z"
        names.append(block + out)
        names += [f"{norm}.hook_scale" for norm in (step.added, step.summed) if norm is not None]
    if isinstance(stack.ln_final, Norm):
        names.append("ln_final.hook_scale")
    prefix = "decoder." if cfg.architecture == "encoder-decoder" else ""
    return [prefix + name for name in dict.fromkeys(names)]


@torch.no_grad()
def direct_logit_attribution(
    model: HookedTransformer,
    cache: ActivationCache,
    right: int,
    wrong: int | None = None,
    less_mean: bool = False,
) -> DirectAttribution:
    """Attribute a logit, or the difference of two, to every component.

    It is computed on the device of the records, which need not be the model's.

    Args:
        model: The model that was run.
        cache: Holding `hooks_needed(model)`, with its batch axis.
        right: The token whose logit is explained.
        wrong: Explain the excess over this token's logit instead.
        less_mean: Explain the excess over the mean logit instead: what all logits share changes no
            probability.

    Raises:
        InputError: for a token outside the vocabulary, a cache without its batch axis, or a model
            whose logits are not linear in its residual stream.
        KeyError: if the cache lacks a hook.
    """
    require_batch_axis(cache)
    towards = LogitDirection.of(model, right, wrong, less_mean)
    stack, cfg = model.main_stack, model.cfg
    embed = cache["hook_embed"]
    scale = _final_scale(model, cache, embed[..., 0])
    view = LogitView(towards.direction, scale)
    attention_biases, norm_biases = view.constant(None), view.constant(None)
    # From the last sublayer to the first: each norm changes how all that comes before it is read.
    by_step: list[tuple[list[Attributed], list[PerPosition]]] = []
    head_views: list[LogitView] = []
    mlp_views: list[MLPView] = []
    for step in reversed(list(steps_before(stack, cfg.n_layers))):
        if step.summed is not None:
            norm_biases = norm_biases + view.constant(stack.get_submodule(step.summed).b)
            view = view.before(step.summed, stack, cache)
        inner = view.before(step.added, stack, cache)
        added_bias = None if step.added is None else stack.get_submodule(step.added).b
        if step.part == "mlp":
            written = view.read(cache["mlp_out", step.layer])
            by_step.append(([Attributed(f"L{step.layer}MLP", "mlp", step.layer)], [written]))
            mlp_views.insert(0, MLPView(inner, view.constant(added_bias)))
            continue
        norm_biases = norm_biases + view.constant(added_bias)
        attn = getattr(stack.blocks[step.layer], step.part)
        attention_biases = attention_biases + inner.constant(attn.b_O)
        by_step.append(_heads(step, attn.W_O, cache["z", step.layer, step.part], inner))
        if step.part == "attn":
            head_views.insert(0, inner)
    if cfg.post_embedding_ln and isinstance(stack.get_submodule("ln_embed"), Norm):
        norm_biases = norm_biases + view.constant(stack.get_submodule("ln_embed").b)
        view = view.before("ln_embed", stack, cache)
    components, values = [Attributed("embed", "embed")], [view.read(embed)]
    for wanted, name in (
        (stack.pos_embed.adds_embedding, "pos_embed"),
        (cfg.n_token_types > 0, "token_type_embed"),
    ):
        if wanted:
            components.append(Attributed(name, "embed"))
            values.append(view.read(cache[f"hook_{name}"]))
    for labels, parts in reversed(by_step):
        components += labels
        values += parts
    components.append(Attributed("b_O", "bias"))
    values.append(attention_biases)
    if cfg.norm_placement != "pre" or cfg.post_embedding_ln:
        components.append(Attributed("norm_bias", "bias"))
        values.append(norm_biases)
    constants = torch.stack([towards.norm_bias, towards.unembed_bias]).to(scale.device)
    components += [Attributed("ln_final.b", "bias"), Attributed("b_U", "bias")]
    values += list(constants[:, None, None].expand(-1, *embed.shape[:2]))
    return DirectAttribution(components, torch.stack(values), towards, scale, head_views, mlp_views)


def _heads(
    step: Step, W_O: Tensor, z: Tensor, view: LogitView
) -> tuple[list[Attributed], list[PerPosition]]:
    """What each head of one attention layer adds."""
    reads = view.along(W_O)
    written = einsum(wide(z), reads, "batch pos head d_head, head d_head -> head batch pos")
    crosses = step.part == "cross_attn"
    kind: Kind = "cross_head" if crosses else "head"
    letter = "C" if crosses else "H"
    labels = [
        Attributed(f"L{step.layer}{letter}{h}", kind, step.layer, h) for h in range(W_O.shape[0])
    ]
    return labels, list(written / view.scale[..., 0])


def require_batch_axis(cache: ActivationCache) -> None:
    """Raise an InputError for a cache whose batch axis was taken off."""
    require(cache.has_batch_dim, "attribution needs a cache with its batch axis. It has none")


def _final_scale(
    model: HookedTransformer, cache: ActivationCache, like: PerPosition
) -> Float[Tensor, "batch pos 1"]:
    if isinstance(model.main_stack.ln_final, Norm):
        return wide(cache["ln_final.hook_scale"])
    return torch.ones_like(like)[..., None]
