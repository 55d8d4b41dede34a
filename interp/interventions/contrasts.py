"""Directions along which the activations of two prompts differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from interp.errors import require
from interp.interventions.base import as_place, as_reference
from interp.interventions.places import Place
from interp.interventions.reference import Recorded, Reference, TokenRows
from interp.interventions.replacements import mean_of
from interp.patching.axes import axes_of
from interp.patching.grids import entries_within

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


def contrast(
    model: HookedTransformer,
    place: Place | str,
    reference: Reference | TokenRows,
    other: Reference | TokenRows,
    position: int | None = None,
) -> Float[Tensor, "d"]:
    """The mean activation of one set of prompts less that of another, to steer along.

    Rimsky et al. 2024, Steering Llama 2 via Contrastive Activation Addition, take it at one
    position; Turner et al. 2023 from one pair of prompts.

    Args:
        model: The model, with the hooks that are on it.
        place: One hook and, where it has heads, one head; its positions are not looked at.
        reference: The prompts whose mean counts with plus.
        other: The prompts whose mean counts with minus.
        position: At which position of each prompt; negative ones count from its last token. None:
            the mean over all positions of each set.

    Raises:
        InputError: for several hooks or heads, patterns and scores, and a position that a prompt
            does not have.
    """
    where = as_place(place)
    hooks = where.hooks(model)
    require(len(hooks) == 1, f"a contrast is taken at one hook. Received {where.describe()}")
    axes = axes_of(model, hooks[0])
    require("src_pos" not in axes.names, f"a contrast is no pattern. Received {hooks[0]}")
    heads = None
    if "head" in axes.names:
        n_chosen = axes.n_heads if where.heads is None else len(where.heads)  # type: ignore[arg-type]
        require(n_chosen == 1, f"a contrast is of one head. Received {where.describe()}")
        heads = entries_within("heads", where.heads or (0,), axes.n_heads)  # type: ignore[arg-type]
    means = []
    for given, name in ((reference, "reference"), (other, "other")):
        recorded = as_reference(given, name).record(model, hooks)
        found = recorded.activations[hooks[0]]
        if position is None:
            mean = mean_of(found, recorded, axes, pooled=True)[0, 0]
        else:
            mean = _at(found, recorded, axes.of_source, position).mean(0)
        means.append(mean if heads is None else mean[heads[0]])
    return means[0] - means[1]


def _at(found: Tensor, recorded: Recorded, of_source: bool, position: int) -> Tensor:
    """`[row, …]`: each prompt's activation at a position."""
    lengths = recorded.source_lengths if of_source else recorded.lengths
    n = [found.shape[1]] * len(found) if lengths is None else lengths.tolist()
    places = [entries_within("position", (position,), length)[0] for length in n]
    return found[range(len(found)), places]
