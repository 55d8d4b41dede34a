"""What a run is given, as tensors: so that it can be run again, row by row or many times over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor

from interp.errors import require
from interp.run.arguments import read
from interp.run.inputs import RunInput

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

_ALLOWED = frozenset(
    {
        "prepend_bos",
        "padding_side",
        "attention_mask",
        "decoder_input",
        "decoder_attention_mask",
        "token_type_ids",
    }
)


def run_tensors(
    model: HookedTransformer, input: Any, **given: Any
) -> dict[str, Int[Tensor, "batch pos"]]:
    """Arguments of `forward` for this input, tensors all of them, each with a row per prompt.

    Args:
        model: The model that will be run.
        input: Text, texts or tokens, as `forward` takes them.
        **given: `prepend_bos`, `padding_side`, `attention_mask`, `token_type_ids`, `decoder_input`
            and `decoder_attention_mask`, as there.

    Returns:
        `input`, and where there are such: `attention_mask`, `token_type_ids`, `decoder_input` and
        `decoder_attention_mask`.

    Raises:
        InputError: for another argument, and as `forward`.
    """
    others = sorted(given.keys() - _ALLOWED)
    require(not others, f"only {', '.join(sorted(_ALLOWED))} may be given. Received {others}")
    reading, _ = read(model, input, None, **given)
    if reading.source is None:
        return _tensors(reading.given, "")
    assert isinstance(reading.source, RunInput)
    return {**_tensors(reading.source, ""), **_tensors(reading.given, "decoder_")}


def _tensors(read_as: RunInput, prefix: str) -> dict[str, Tensor]:
    tokens = read_as.tokens
    assert tokens is not None
    found = {f"{prefix}input": tokens}
    # Without a mask, tokens that look like padding would be taken for it when they are read again.
    mask = read_as.attention_mask
    found[f"{prefix}attention_mask"] = torch.ones_like(tokens) if mask is None else mask.long()
    if read_as.token_types is not None:
        found["token_type_ids"] = read_as.token_types
    return found


def repeated(
    given: dict[str, Int[Tensor, "batch pos"]], n: int
) -> dict[str, Int[Tensor, "row pos"]]:
    """All prompts n times over: `[n * batch, pos]`."""
    return {name: x.repeat(n, *[1] * (x.ndim - 1)) for name, x in given.items()}
