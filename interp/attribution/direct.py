"""Direct logit attribution: the final logit as a sum over the components that wrote it.

The logit of a token is linear in the final residual stream once the final norm's scale is held at
the value it had. Each component's share is its output projected on one direction per token, so a
head costs a product with W_O u, `[d_head]`, and its `[d_model]` output is never built.

Source: Elhage et al. 2021, A Mathematical Framework for Transformer Circuits; Wang et al. 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from interp.components.norm import Norm
from interp.errors import InputError

if TYPE_CHECKING:
    from interp.cache import ActivationCache
    from interp.transformer import HookedTransformer

Kind = Literal["embed", "head", "mlp", "bias"]
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
        W_U, b_U = _wide(model.W_U[:, right]), _wide(model.b_U[right])
        if wrong is not None:
            W_U, b_U = W_U - _wide(model.W_U[:, wrong]), b_U - _wide(model.b_U[wrong])
        if less_mean:
            W_U, b_U = W_U - _wide(model.W_U).mean(-1), b_U - _wide(model.b_U).mean()
        norm = model.ln_final
        norm_bias = torch.zeros_like(b_U)
        if isinstance(norm, Norm):
            if norm.b is not None:
                norm_bias = _wide(norm.b) @ W_U
            if norm.w is not None:
                W_U = W_U * _wide(norm.w)
            if norm.centres:
                # (x - mean x) · u = x · (u - mean u)
                W_U = W_U - W_U.mean()
        return cls(W_U, norm_bias, b_U)


@dataclass(frozen=True, slots=True)
class Attributed:
    """One component of a `DirectAttribution`.

    Attributes:
        label: `embed`, `pos_embed`, `L0H3`, `L0MLP`, or a bias: `b_O` (of all layers together),
            `ln_final.b`, `b_U`.
        kind: embed, head, mlp or bias.
        layer, head: Where it is; None where that has no meaning.
    """

    label: str
    kind: Kind
    layer: int | None = None
    head: int | None = None


@dataclass(frozen=True, slots=True)
class DirectAttribution:
    """What each component adds to a logit at every destination position.

    Attributes:
        components: What the rows of `values` are.
        values: `[component, batch, pos]`; they sum to the logit (difference).
        direction: The direction that was projected on.
        scale: The final norm's scale, `[batch, pos, 1]`; ones where there is no norm.
    """

    components: list[Attributed]
    values: Float[Tensor, "component batch pos"]
    direction: LogitDirection
    scale: Float[Tensor, "batch pos 1"]

    def total(self) -> PerPosition:
        """The sum of all components: the logit."""
        return self.values.sum(0)

    def heads(self, n_layers: int, n_heads: int) -> Float[Tensor, "layer head batch pos"]:
        """The heads' rows alone."""
        rows = [i for i, c in enumerate(self.components) if c.kind == "head"]
        return self.values[rows].unflatten(0, (n_layers, n_heads))


def hooks_needed(model: HookedTransformer) -> list[str]:
    """The hooks that `direct_logit_attribution` reads from a cache."""
    names = ["hook_embed"]
    if model.pos_embed.adds_embedding:
        names.append("hook_pos_embed")
    for layer in range(model.cfg.n_layers):
        names.append(f"blocks.{layer}.attn.hook_z")
        if not model.cfg.attn_only:
            names.append(f"blocks.{layer}.hook_mlp_out")
    if isinstance(model.ln_final, Norm):
        names.append("ln_final.hook_scale")
    return names


@torch.no_grad()
def direct_logit_attribution(
    model: HookedTransformer,
    cache: ActivationCache,
    right: int,
    wrong: int | None = None,
    less_mean: bool = False,
) -> DirectAttribution:
    """Attribute a logit, or the difference of two, to every component.

    Args:
        model: The model that was run.
        cache: Holding `hooks_needed(model)`, with its batch axis.
        right: The token whose logit is explained.
        wrong: Explain the excess over this token's logit instead.
        less_mean: Explain the excess over the mean logit instead: what all logits share changes no
            probability.

    Raises:
        InputError: for a token outside the vocabulary, or a cache without its batch axis.
        KeyError: if the cache lacks a hook.
    """
    if not cache.has_batch_dim:
        raise InputError("direct_logit_attribution needs a cache with its batch axis.")
    towards = LogitDirection.of(model, right, wrong, less_mean)
    u = towards.direction
    embed = _wide(cache["hook_embed"]) @ u
    components, values = [Attributed("embed", "embed")], [embed]
    if model.pos_embed.adds_embedding:
        components.append(Attributed("pos_embed", "embed"))
        values.append((_wide(cache["hook_pos_embed"]) @ u).expand_as(embed))
    attention_biases = torch.zeros_like(u[0])
    for layer, block in enumerate(model.blocks):
        reads = einsum(_wide(block.attn.W_O), u, "head d_head d_model, d_model -> head d_head")
        z = _wide(cache["z", layer])
        heads = einsum(z, reads, "batch pos head d_head, head d_head -> head batch pos")
        components += [
            Attributed(f"L{layer}H{h}", "head", layer, h) for h in range(model.cfg.n_heads)
        ]
        values += list(heads)
        attention_biases = attention_biases + _wide(block.attn.b_O) @ u
        if not model.cfg.attn_only:
            components.append(Attributed(f"L{layer}MLP", "mlp", layer))
            values.append(_wide(cache["mlp_out", layer]) @ u)
    components.append(Attributed("b_O", "bias"))
    values.append(attention_biases.expand_as(embed))
    scale = _final_scale(model, cache, embed)
    stacked = torch.stack(values) / scale[..., 0]
    constants = torch.stack([towards.norm_bias, towards.unembed_bias])
    components += [Attributed("ln_final.b", "bias"), Attributed("b_U", "bias")]
    constants = constants[:, None, None].expand(-1, *embed.shape)
    return DirectAttribution(components, torch.cat([stacked, constants]), towards, scale)


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
        layer: The head's layer.
        head: Its number in the layer.
    """
    attn = model.blocks[layer].attn
    reads = _wide(attn.W_O[head]) @ attribution.direction.direction
    v = cache["v", layer]
    kv_head = head * v.shape[2] // model.cfg.n_heads
    written = _wide(v[:, :, kv_head]) @ reads
    pattern = _wide(cache["pattern", layer][:, head])
    return pattern * written[:, None, :] / attribution.scale


def _final_scale(
    model: HookedTransformer, cache: ActivationCache, like: PerPosition
) -> Float[Tensor, "batch pos 1"]:
    if isinstance(model.ln_final, Norm):
        return _wide(cache["ln_final.hook_scale"])
    return torch.ones_like(like)[..., None]


def _wide(x: Tensor) -> Tensor:
    """At least fp32: a sum of many half-precision shares would lose what it is meant to show."""
    return x if x.dtype == torch.float64 else x.float()
