"""A model of which only the parts asked for work, run as it is: what the circuits are held against.

Norms keep their centring and weights and divide by one, biases and positions are zero, MLPs write
nothing, and of the heads only those that are named write, each what it finds at its own position.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor

from interp import HookedTransformer

Head = tuple[int, int]
Hook = tuple[str | Callable[[str], bool], Callable[[Tensor, Any], Tensor]]


@torch.no_grad()
def without_biases(model: HookedTransformer) -> HookedTransformer:
    """A copy whose biases, those of the norms too, are zero, and whose scores have no soft cap."""
    bare = copy.deepcopy(model)
    for name, parameter in bare.named_parameters():
        if name.rsplit(".", 1)[-1].lstrip("_").startswith("b"):
            parameter.zero_()
    return bare


def alone(
    model: HookedTransformer,
    heads: Collection[Head] = (),
    only_at: dict[Head, list[int]] | None = None,
) -> list[Hook]:
    """Hooks that leave only these heads, each looking at its own position.

    `only_at`: the positions at which a head writes; elsewhere it writes nothing.
    """

    def eye(pattern: Tensor, hook: Any) -> Tensor:
        return torch.eye(*pattern.shape[-2:], dtype=pattern.dtype).expand_as(pattern)

    def keep(z: Tensor, hook: Any) -> Tensor:
        layer = int(hook.name.split("blocks.")[1].split(".")[0])
        kept = torch.zeros_like(z)
        for head in heads:
            if head[0] == layer and "cross_attn" not in hook.name:
                at = list(range(z.shape[1])) if only_at is None else only_at.get(head, [])
                kept[:, at, head[1]] = z[:, at, head[1]]
        return kept

    one = lambda scale, hook: torch.ones_like(scale)
    none = lambda x, hook: torch.zeros_like(x)
    zeroed = ("hook_mlp_out", "hook_pos_embed", "hook_token_type_embed", "hook_pos_bias")
    return [
        (lambda name: name.endswith("hook_scale"), one),
        (lambda name: name.endswith(zeroed) or name.endswith("hook_cross_attn_out"), none),
        (lambda name: name.endswith(".attn.hook_pattern"), eye),
        (lambda name: name.endswith(".attn.hook_z"), keep),
    ]


@torch.no_grad()
def seen(
    model: HookedTransformer, tokens: Tensor, name: str, hooks: list[Hook], **given: Any
) -> Tensor:
    """What flows through one hook of the main stack."""
    if model.cfg.architecture == "encoder-decoder":
        given = {"decoder_input": tokens, **given}
        name = name if name.startswith("unembed") else f"decoder.{name}"
    found: list[Tensor] = []

    def record(x: Tensor, hook: Any) -> None:
        found.append(x.clone())

    model.run_with_hooks(tokens, fwd_hooks=[*hooks, (name, record)], **given)
    return found[0]


def every_token(model: HookedTransformer) -> Tensor:
    """A row for each token."""
    return torch.arange(model.cfg.d_vocab)[:, None]
