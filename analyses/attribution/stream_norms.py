"""How long the vectors of the residual stream are, and what attention and MLPs add to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import torch

from analyses.inputs.prompts import token_texts
from interp.errors import InputError, require_one_of
from interp.precision import wide

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

Stack = Literal["main", "encoder"]
STREAM = "residual stream"
_ADDED = {
    "attention": "hook_attn_out",
    "cross-attention": "hook_cross_attn_out",
    "MLP": "hook_mlp_out",
}


@torch.no_grad()
def norms_table(model: HookedTransformer, stack: Stack = "main", **inputs: Any) -> pd.DataFrame:
    """Euclidean norms by layer and position, of one prompt.

    Args:
        model: A model with layers.
        stack: Of an encoder–decoder: `main`, its decoder, or `encoder`.
        **inputs: What the model is called with, as tensors of one row.

    Returns:
        what (`residual stream`, `attention`, `cross-attention`, `MLP`), layer (of a stream: the
        block that reads it; n_layers: what the unembedding reads), stream (its label), position,
        token, norm, relative: the norm over that of the stream that the block read; for streams
        over that of the first.

    Raises:
        InputError: for a model without layers, or without an encoder that stands by itself.
    """
    require_one_of("stack", stack, ("main", "encoder"))
    both = model.cfg.architecture == "encoder-decoder"
    if stack == "encoder" and not both:
        raise InputError("stack='encoder' needs an encoder-decoder. This is not one.")
    blocks = (model.encoder if stack == "encoder" else model.main_stack).blocks
    n_layers = len(blocks)
    if not n_layers:
        raise InputError("this model has no layers: its stream is its embedding.")
    prefix = "" if not both else "encoder." if stack == "encoder" else "decoder."
    streams = [f"{prefix}blocks.{layer}.hook_resid_pre" for layer in range(n_layers)]
    streams.append(f"{prefix}blocks.{n_layers - 1}.hook_resid_post")
    added = {
        (what, layer): name
        for what, hook in _ADDED.items()
        for layer in range(n_layers)
        if (name := f"{prefix}blocks.{layer}.{hook}") in model.hook_dict
    }
    names = [*streams, *added.values()]
    _, cache = model.run_with_cache(**inputs, names_filter=names, return_type=None)
    ids = inputs["input"] if stack == "encoder" or not both else inputs["decoder_input"]
    texts = token_texts(model, ids[0])
    lengths = [wide(cache[name][0]).norm(dim=-1).double() for name in streams]
    frames = [
        _frame(STREAM, layer, texts, length, length / lengths[0])
        for layer, length in enumerate(lengths)
    ]
    for (what, layer), name in added.items():
        length = wide(cache[name][0]).norm(dim=-1).double()
        frames.append(_frame(what, layer, texts, length, length / lengths[layer]))
    table = pd.concat(frames, ignore_index=True)
    last = (table["what"] == STREAM) & (table["layer"] == n_layers)
    labels = table["layer"].astype(str)
    return table.assign(stream=labels.where(~last, "final"))


def _frame(what: str, layer: int, texts: list[str], norm: Any, relative: Any) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "what": what,
            "layer": layer,
            "position": range(len(texts)),
            "token": texts,
            "norm": norm.cpu().numpy(),
            "relative": relative.cpu().numpy(),
        }
    )
