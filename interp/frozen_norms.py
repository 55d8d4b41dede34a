"""How what a component writes reaches a later residual stream when norms lie on its way.

With norms in front of what reads (`norm_placement="pre"`) nothing lies there. Elsewhere the stream
itself is normalised (`post`), or what is added to it is (`sandwich`, `output`). With its scale held
at the value that it had, a norm is linear, so the parts of a sum may pass it one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from interp.components.norm import Norm

Sublayer = Literal["attn", "cross_attn", "mlp"]


@dataclass(frozen=True, slots=True)
class Step:
    """One sublayer of a stack, in the order that they run.

    Attributes:
        layer: Its block.
        part: Which of the block's sublayers it is.
        added: Name of the norm of what it adds; None: there is none.
        summed: Name of the norm of the sum; None: there is none.
    """

    layer: int
    part: Sublayer
    added: str | None
    summed: str | None


def steps_before(stack: Any, layer: int, mlp_input: bool = False) -> Iterator[Step]:
    """The sublayers that write before block `layer` reads (or, with `mlp_input`, its MLP)."""
    for i in range(layer + mlp_input):
        block = stack.blocks[i]
        parts: list[Sublayer] = ["attn"]
        if block.crosses:
            parts.append("cross_attn")
        if hasattr(block, "mlp") and i < layer:
            parts.append("mlp")
        for number, part in enumerate(parts):
            name = f"blocks.{i}.{block.mlp_norm if part == 'mlp' else f'ln{number + 1}'}"
            added = f"{name}_post" if block.adds_normalised else None
            summed = name if block.cfg.norm_placement == "post" else None
            yield Step(i, part, _real(stack, added), _real(stack, summed))


def _real(stack: Any, name: str | None) -> str | None:
    """The name, unless a model without norms has nothing of that name."""
    return name if name is not None and isinstance(stack.get_submodule(name), Norm) else None


def pass_on(
    norm: Norm, parts: Float[Tensor, "*axes d_model"], scale: Float[Tensor, "*scale_axes 1"]
) -> Float[Tensor, "*axes d_model"]:
    """Parts of a sum `[..., d_model]` behind a norm with this scale, its bias left out."""
    if norm.centres:
        parts = parts - parts.mean(-1, keepdim=True)
    parts = parts / scale
    return parts if norm.w is None else parts * norm.w


def pull_back(norm: Norm, direction: Float[Tensor, "d_model"]) -> Float[Tensor, "d_model"]:
    """The direction in front of a norm that, over its scale, reads as `direction` does behind."""
    if norm.w is not None:
        direction = direction * norm.w.to(direction.dtype)
    return direction - direction.mean() if norm.centres else direction
