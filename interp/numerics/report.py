"""What to say of a tensor that holds a NaN or an infinity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from interp.devices.placement import part_of
from interp.numerics.errors import NonFiniteError

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

_HEADS = ("hook_q", "hook_k", "hook_v", "hook_rot_q", "hook_rot_k", "hook_z")
_SQUARE = ("hook_attn_scores", "hook_pattern", "hook_pos_bias")


def report(
    model: HookedTransformer,
    name: str,
    x: Float[Tensor, "..."],
    is_gradient: bool,
    given_bad: bool,
    flows_on: bool = False,
) -> NonFiniteError:
    """The error for a tensor or gradient that holds such a value.

    Args:
        model: Whose run it is.
        name: A hook.
        x: Its tensor or gradient; with `flows_on`, what the layer made of its tensor.
        is_gradient: Which of both.
        given_bad: What the run was given holds such a value already.
        flows_on: The hook's tensor is finite itself.
    """
    bad = ~torch.isfinite(x)
    place = int(bad.flatten().int().argmax())
    first = tuple(int(i) for i in torch.unravel_index(torch.tensor(place), x.shape))
    n_nan, n_inf, n_negative_inf = (
        int(found.sum()) for found in (x.isnan(), x == torch.inf, x == -torch.inf)
    )
    part = part_of(name)
    weights = tuple(
        weight_name
        for weight_name, weight in model.named_parameters()
        if part_of(weight_name) == part and not bool(torch.isfinite(weight).all())
    )
    axes = zip(_axes(name, x.ndim), first, strict=True)
    where = f"{name} is the first hook with a value"
    if is_gradient:
        where = f"{name} is the first hook of the backward pass with a gradient"
    elif flows_on:
        where = f"what flows on from {name} is the first tensor with a value"
    told = [
        f"{where} that is not finite: {n_nan} NaN, {n_inf} +Inf and {n_negative_inf} -Inf of "
        f"{x.numel()}, the first at [{', '.join(f'{axis} {i}' for axis, i in axes)}]"
    ]
    if given_bad:
        told.append("What the run was given is not finite already")
    if weights:
        told.append(f"Weights of {part} that are not finite: {', '.join(weights)}")
    else:
        told.append(f"The weights of {part} are finite")
    point = model.hook_dict.get(name)
    if point is not None and point.fwd_hooks and not is_gradient:
        told.append(f"Hook functions attached there: {len(point.fwd_hooks)}")
    return NonFiniteError(
        ". ".join(told) + ".",
        hook=name,
        is_gradient=is_gradient,
        n_nan=n_nan,
        n_inf=n_inf,
        n_negative_inf=n_negative_inf,
        first=first,
        bad_weights=weights,
        given_bad=given_bad,
    )


def _axes(name: str, n_axes: int) -> tuple[str, ...]:
    """What the axes of a hook's tensor count."""
    last = name.rsplit(".", 1)[-1]
    if last in _SQUARE and n_axes == 4:
        return "batch", "head", "query", "key"
    if last in _HEADS and n_axes == 4:
        return "batch", "pos", "head", "dim"
    of_mlp = ".mlp." in name and last.startswith(("hook_pre", "hook_post"))
    width = "neuron" if of_mlp else "token" if name == "unembed.hook_out" else "dim"
    if n_axes == 3:
        return "batch", "pos", width
    if n_axes == 2:
        return "batch", width
    return tuple(f"axis{i}" for i in range(n_axes))
