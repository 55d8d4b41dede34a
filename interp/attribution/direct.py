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
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from interp.components.norm import Norm
from interp.errors import InputError, require
from interp.frozen_norms import Step, pull_back, steps_before

if TYPE_CHECKING:
    from interp.cache import ActivationCache
    from interp.transformer import HookedTransformer

Kind = Literal["embed", "head", "cross_head", "mlp", "bias"]
PerPosition = Float[Tensor, "batch pos"]


@dataclass(frozen=True, slots=True)
class LogitDirection:
    """A logit, or a difference of two, as a direction in front of the final norm's division.

    Attributes:
        direction: u `[d_model]`: a component x contributes (x · u) / scale.
        norm_bias: What the final norm's bias adds, whatever the input.
        unembed_bias: What b_U adds.
    """

    direction: Float[Tensor, "d_model"]
    norm_bias: Float[Tensor, ""]
    unembed_bias: Float[Tensor, ""]

    @classmethod
    def of(
        cls,
        model: HookedTransformer,
        right: int,
        wrong: int | None = None,
        less_mean: bool = False,
    ) -> LogitDirection:
        """The direction of one token's logit, or of its excess over another's or over the mean.

        Raises:
            InputError: for a token outside the output vocabulary, or both references at once.
        """
        if wrong is not None and less_mean:
            raise InputError("less_mean and wrong are two references: give one.")
        for token in (right, wrong):
            if token is not None and not 0 <= token < model.cfg.d_vocab_out:
                raise InputError(
                    f"a token must lie in 0 … {model.cfg.d_vocab_out - 1}. Received {token}."
                )
        if model.cfg.head != "lm":
            raise InputError(
                f"a logit is linear in the residual stream only with head='lm'. "
                f"This model's is {model.cfg.head!r}."
            )
        W_U, b_U = _wide(model.W_U[:, right]), _wide(model.b_U[right])
        if wrong is not None:
            W_U, b_U = W_U - _wide(model.W_U[:, wrong]), b_U - _wide(model.b_U[wrong])
        if less_mean:
            W_U, b_U = W_U - _wide(model.W_U).mean(-1), b_U - _wide(model.b_U).mean()
        W_U = W_U * model.cfg.logit_scale
        norm = model.main_stack.ln_final
        norm_bias = torch.zeros_like(b_U)
        if isinstance(norm, Norm):
            if norm.b is not None:
                norm_bias = _wide(norm.b) @ W_U
            W_U = pull_back(norm, W_U)
        return cls(W_U, norm_bias, b_U)


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


class _View(NamedTuple):
    """A place in the stack, seen from a logit: what is written there adds (x · direction) / scale.

    Attributes:
        direction: `[d_model]`, on the model's device.
        scale: `[batch, pos, 1]`, on that of the records.
    """

    direction: Float[Tensor, "d_model"]
    scale: Float[Tensor, "batch pos 1"]

    def along(self, weights: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes"]:
        """Weights of the model projected on the direction, for use beside the records."""
        return (_wide(weights) @ self.direction).to(self.scale.device)

    def read(self, written: Float[Tensor, "batch pos d_model"]) -> PerPosition:
        return _wide(written) @ self.direction.to(written.device) / self.scale[..., 0]

    def constant(self, bias: Float[Tensor, "d_model"] | None) -> PerPosition:
        if bias is None:
            return torch.zeros_like(self.scale[..., 0])
        return self.along(bias) / self.scale[..., 0]

    def before(self, name: str | None, stack: Any, cache: ActivationCache) -> _View:
        """The same in front of a norm; None: there is none."""
        if name is None:
            return self
        scale = _wide(cache[f"{name}.hook_scale"])
        norm = stack.get_submodule(name)
        return _View(pull_back(norm, self.direction), self.scale * scale)


class _MLPView(NamedTuple):
    """How what W_out and b_out of one MLP write is seen from a logit.

    Attributes:
        view: In front of the norm of what the MLP adds, where there is one.
        norm_bias: What that norm's bias adds, `[batch, pos]`.
    """

    view: _View
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
    head_views: list[_View]
    mlp_views: list[_MLPView]

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
    _require_batch_axis(cache)
    towards = LogitDirection.of(model, right, wrong, less_mean)
    stack, cfg = model.main_stack, model.cfg
    embed = cache["hook_embed"]
    scale = _final_scale(model, cache, embed[..., 0])
    view = _View(towards.direction, scale)
    attention_biases, norm_biases = view.constant(None), view.constant(None)
    # From the last sublayer to the first: each norm changes how all that comes before it is read.
    by_step: list[tuple[list[Attributed], list[PerPosition]]] = []
    head_views: list[_View] = []
    mlp_views: list[_MLPView] = []
    for step in reversed(list(steps_before(stack, cfg.n_layers))):
        if step.summed is not None:
            norm_biases = norm_biases + view.constant(stack.get_submodule(step.summed).b)
            view = view.before(step.summed, stack, cache)
        inner = view.before(step.added, stack, cache)
        added_bias = None if step.added is None else stack.get_submodule(step.added).b
        if step.part == "mlp":
            written = view.read(cache["mlp_out", step.layer])
            by_step.append(([Attributed(f"L{step.layer}MLP", "mlp", step.layer)], [written]))
            mlp_views.insert(0, _MLPView(inner, view.constant(added_bias)))
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
    step: Step, W_O: Tensor, z: Tensor, view: _View
) -> tuple[list[Attributed], list[PerPosition]]:
    """What each head of one attention layer adds."""
    reads = view.along(W_O)
    written = einsum(_wide(z), reads, "batch pos head d_head, head d_head -> head batch pos")
    crosses = step.part == "cross_attn"
    kind: Kind = "cross_head" if crosses else "head"
    letter = "C" if crosses else "H"
    labels = [
        Attributed(f"L{step.layer}{letter}{h}", kind, step.layer, h) for h in range(W_O.shape[0])
    ]
    return labels, list(written / view.scale[..., 0])


@torch.no_grad()
def source_attribution(
    model: HookedTransformer,
    cache: ActivationCache,
    attribution: DirectAttribution,
    layer: int,
    head: int,
) -> Float[Tensor, "batch pos key_pos"]:
    """One head's share, split over the source positions that it read.

    pattern × (v · W_O u) / scale: summed over key_pos it is the head's share at every position.

    Args:
        model: The model that was run.
        cache: Holding `pattern` and `v` of that layer.
        attribution: From `direct_logit_attribution` on the same input.
        layer: The head's layer. Negative counts from the end.
        head: Its number in the layer, likewise.

    Raises:
        InputError: for a head that does not exist, or a cache of other rows, positions or another
            device than the attribution's, without its batch axis, or without every key position.
        KeyError: if the cache lacks a hook.
    """
    layer = _index("layer", layer, len(attribution.head_views))
    head = _index("head", head, model.cfg.n_heads)
    view = attribution.head_views[layer]
    pattern = _recorded(cache, ("pattern", layer), view, pos_axis=2)
    v = cache["v", layer]
    require(
        v.shape[:2] == (pattern.shape[0], pattern.shape[3]),
        f"source_attribution needs v at every key position, [batch, key_pos] = "
        f"{[pattern.shape[0], pattern.shape[3]]}. The cache has {list(v.shape[:2])}",
    )
    kv_head = head * v.shape[2] // model.cfg.n_heads
    reads = view.along(model.main_stack.blocks[layer].attn.W_O[head])
    written = _wide(v[:, :, kv_head]) @ reads
    return _wide(pattern[:, head]) * written[:, None, :] / view.scale


@torch.no_grad()
def neuron_attribution(
    model: HookedTransformer, cache: ActivationCache, attribution: DirectAttribution, layer: int
) -> Float[Tensor, "batch pos *expert d_mlp"]:
    """What each neuron of one MLP adds to the logit: post × (W_out u) / scale.

    With `mlp_bias_attribution` the neurons sum to the MLP's share. In a mixture of experts each
    expert has its own, times the weight that its token gives it, on an axis before d_mlp.

    Args:
        model: The model that was run.
        cache: Holding `post` of that layer, and `expert_weights` where there are experts.
        attribution: From `direct_logit_attribution` on the same input.
        layer: The MLP's layer. Negative counts from the end.

    Raises:
        InputError: for a layer that does not exist, a model without MLPs, or a cache of other rows,
            positions or another device than the attribution's, or without its batch axis.
        KeyError: if the cache lacks a hook.
    """
    layer = _mlp_layer(attribution, layer)
    view = attribution.mlp_views[layer].view
    reads = view.along(model.main_stack.blocks[layer].mlp.W_out)
    post = _wide(_recorded(cache, ("post", layer), view))
    if model.cfg.num_experts is None:
        return post * reads / view.scale
    post = post * _wide(_recorded(cache, ("expert_weights", layer), view))[..., None]
    return post * reads / view.scale[..., None]


@torch.no_grad()
def mlp_bias_attribution(
    model: HookedTransformer, cache: ActivationCache, attribution: DirectAttribution, layer: int
) -> PerPosition:
    """What an MLP's share holds beside its neurons: b_out, and the bias of a norm behind it.

    Arguments and errors are those of `neuron_attribution`; without experts nothing is read from
    the cache.
    """
    _require_batch_axis(cache)
    layer = _mlp_layer(attribution, layer)
    view, norm_bias = attribution.mlp_views[layer]
    b_out = model.main_stack.blocks[layer].mlp.b_out
    if model.cfg.num_experts is None:
        return view.constant(b_out) + norm_bias
    weights = _wide(_recorded(cache, ("expert_weights", layer), view))
    return weights @ view.along(b_out) / view.scale[..., 0] + norm_bias


def _mlp_layer(attribution: DirectAttribution, layer: int) -> int:
    if not attribution.mlp_views:
        raise InputError("this model has no MLPs, so it has no neurons.")
    return _index("layer", layer, len(attribution.mlp_views))


def _index(what: str, index: int, n: int) -> int:
    """A layer or head, counted from the start."""
    require(
        -n <= index < n,
        f"{what} must lie in 0 … {n - 1}, or from -{n} on to count from the end. Received {index}",
    )
    return index % n


def _require_batch_axis(cache: ActivationCache) -> None:
    require(cache.has_batch_dim, "attribution needs a cache with its batch axis. It has none")


def _recorded(
    cache: ActivationCache, key: tuple[str, int], view: _View, pos_axis: int = 1
) -> Tensor:
    """A record of the rows and positions that an attribution is of, on its device."""
    _require_batch_axis(cache)
    found = cache[key]
    shape, wanted = [found.shape[0], found.shape[pos_axis]], list(view.scale.shape[:2])
    require(
        shape == wanted and found.device == view.scale.device,
        f"the cache must be of the attribution's rows and positions, [batch, pos] = {wanted} on "
        f"{view.scale.device}. {cache.full_name(key)} has {shape} on {found.device}",
    )
    return found


def _final_scale(
    model: HookedTransformer, cache: ActivationCache, like: PerPosition
) -> Float[Tensor, "batch pos 1"]:
    if isinstance(model.main_stack.ln_final, Norm):
        return _wide(cache["ln_final.hook_scale"])
    return torch.ones_like(like)[..., None]


def _wide(x: Tensor) -> Tensor:
    """At least fp32: a sum of many half-precision shares would lose what it is meant to show."""
    return x if x.dtype == torch.float64 else x.float()
