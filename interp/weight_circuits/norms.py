"""The norms on a path through the weights, with their scales left out.

A norm divides by a scale that a run sets, so no circuit of weights holds it. What a norm does
besides is linear, and is kept: it takes off the mean over d_model (LayerNorm) and multiplies by its
weight. A circuit is thus that of the model with its norms folded (`process_weights`), processed or
not. The norms' biases, as all biases, are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from interp.components.norm import Norm
from interp.errors import require
from interp.frozen_norms import Sublayer, steps_before

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

Path = tuple[Norm, ...]
"""Norms in the order in which what is written passes them."""


def push(path: Path, vectors: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_model"]:
    """Vectors behind these norms."""
    for norm in path:
        if norm.centres:
            vectors = vectors - vectors.mean(-1, keepdim=True)
        if norm.w is not None:
            vectors = vectors * norm.w
    return vectors


def pull(path: Path, weight: Float[Tensor, "*axes d_model n"]) -> Float[Tensor, "*axes d_model n"]:
    """Weights that read in front of these norms what `weight` reads behind them."""
    for norm in reversed(path):
        if norm.w is not None:
            weight = weight * norm.w[:, None]
        if norm.centres:
            weight = weight - weight.mean(-2, keepdim=True)
    return weight


def path_to_reader(
    model: HookedTransformer, layer: int, part: Sublayer = "attn", start: int = -1
) -> Path:
    """Norms between the embeddings (`start=-1`) and what `part` of block `layer` multiplies.

    `start=n`: those between what block n reads and there. `layer=n_layers`: as far as the
    unembedding.
    """
    stack = model.main_stack
    norms: list[Any] = []
    if start < 0 and model.cfg.post_embedding_ln:
        norms.append(stack.ln_embed)
    mlp_input = part == "mlp" and layer < model.cfg.n_layers
    norms += [
        stack.get_submodule(step.summed)
        for step in steps_before(stack, layer, mlp_input)
        if step.layer >= start and step.summed is not None
    ]
    return (*_real(norms), *norm_of_reader(model, layer, part))


def path_from_writer(
    model: HookedTransformer,
    layer: int,
    part: Sublayer = "attn",
    to: int | None = None,
) -> Path:
    """Norms between what `part` of block `layer` writes and the stream that block `to` reads.

    The norm in front of the reader is not one of them. `to=None`: as far as the final norm, which
    is left out too.
    """
    stack = model.main_stack
    norms: list[Any] = []
    seen = False
    for step in steps_before(stack, model.cfg.n_layers if to is None else to):
        if (step.layer, step.part) == (layer, part):
            seen = True
            if step.added is not None:
                norms.append(stack.get_submodule(step.added))
        if seen and step.summed is not None:
            norms.append(stack.get_submodule(step.summed))
    return _real(norms)


def norm_of_reader(model: HookedTransformer, layer: int, part: Sublayer = "attn") -> Path:
    """The norm in front of `part` of block `layer`, or (`layer=n_layers`) of the unembedding."""
    stack = model.main_stack
    if layer == model.cfg.n_layers:
        return _real([stack.ln_final])
    block = stack.blocks[layer]
    if not block.reads_normalised:
        return ()
    return _real([getattr(block, block.mlp_norm if part == "mlp" else "ln1")])


def _real(norms: Iterable[Any]) -> Path:
    return tuple(norm for norm in norms if isinstance(norm, Norm))


def check_layer(model: HookedTransformer, layer: int) -> None:
    """Raise `InputError` for a layer that is not there."""
    n_layers = model.cfg.n_layers
    require(
        isinstance(layer, int) and 0 <= layer < n_layers,
        f"layer must lie in 0 … {n_layers - 1}. Received {layer!r}",
    )


def check_head(model: HookedTransformer, layer: int, head: int) -> None:
    """Raise `InputError` for a head that is not there."""
    check_layer(model, layer)
    n_heads = model.cfg.n_heads
    require(
        isinstance(head, int) and 0 <= head < n_heads,
        f"head must lie in 0 … {n_heads - 1}. Received {head!r}",
    )


def check_linear_logits(model: HookedTransformer) -> None:
    """Raise `InputError` where something other than a norm stands before the unembedding."""
    require(
        model.cfg.head == "lm",
        f"logits are linear in the residual stream only with head='lm'. "
        f"This model's is {model.cfg.head!r}",
    )
