"""Interventions restated: hooks with plain loops over rows, positions and heads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from interp import HookedTransformer

Edit = Callable[[Tensor], Tensor]


def alone(given: dict[str, Tensor], row: int) -> dict[str, Tensor]:
    """One row of an input without its padding."""
    found = {}
    for name in ("input", "decoder_input", "token_type_ids"):
        if name in given:
            mask = given.get("decoder_attention_mask" if name[0] == "d" else "attention_mask")
            x = given[name][row]
            found[name] = (x if mask is None else x[mask[row].bool()])[None]
    return found


def edited(model: HookedTransformer, given: dict[str, Tensor], **hooks: Edit) -> Tensor:
    """The run with these edits (dots of a name written as `__`)."""

    def hook_of(edit: Edit) -> Callable[..., Any]:
        return lambda x, hook: edit(x.clone())

    pairs = [(name.replace("__", "."), hook_of(edit)) for name, edit in hooks.items()]
    with torch.no_grad():
        return model.run_with_hooks(**given, fwd_hooks=pairs)


def over(
    x: Tensor,
    heads: Iterable[int] | None,
    positions: Iterable[int] | None,
    new: Callable[[int, int, int], Any],
) -> Tensor:
    """`x` `[batch, pos, head, d]` with `new(row, position, head)` at these places."""
    for row in range(x.shape[0]):
        for pos in range(x.shape[1]) if positions is None else positions:
            for head in range(x.shape[2]) if heads is None else heads:
                x[row, pos, head] = new(row, pos, head)
    return x


def recorded(model: HookedTransformer, hook: str, **given: Tensor) -> Tensor:
    """The activation at a hook."""
    with torch.no_grad():
        return model.run_with_cache(**given, names_filter=hook)[1][hook]
