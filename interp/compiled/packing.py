"""A run's input as a flat list of tensors, as a compiled program takes it, and back."""

from __future__ import annotations

import torch
from jaxtyping import Shaped
from torch import Tensor

from interp.run.arguments import EncoderOutput, Reading
from interp.run.inputs import RunInput, places

_FIELDS = ("tokens", "residual", "attention_mask", "real_keys", "token_types")


def pack(reading: Reading, device: torch.device) -> dict[str, Shaped[Tensor, "..."]]:
    """Its tensors by name, on this device; those that follow from the others are left out."""
    packed = _pack_input("given", reading.given)
    if isinstance(reading.source, RunInput):
        packed |= _pack_input("source", reading.source)
    elif reading.source is not None:
        packed["encoded.residual"] = reading.source.residual
        if reading.source.attention_mask is not None:
            packed["encoded.mask"] = reading.source.attention_mask.bool()
    if reading.loss_tokens is not None:
        packed["loss_tokens"] = reading.loss_tokens
    return {name: plain(x.to(device)) for name, x in packed.items()}


def unpack(packed: dict[str, Shaped[Tensor, "..."]]) -> Reading:
    """What `pack` was given."""
    source: RunInput | EncoderOutput | None = None
    if "encoded.residual" in packed:
        source = EncoderOutput(packed["encoded.residual"], packed.get("encoded.mask"))
    elif "source.tokens" in packed:
        source = _unpack_input("source", packed)
    return Reading(_unpack_input("given", packed), source, packed.get("loss_tokens"))


def _pack_input(part: str, given: RunInput) -> dict[str, Tensor]:
    found = {f"{part}.{field}": getattr(given, field) for field in _FIELDS}
    mask = given.attention_mask
    found[f"{part}.attention_mask"] = None if mask is None else mask.bool()
    return {name: x for name, x in found.items() if x is not None}


def _unpack_input(part: str, packed: dict[str, Tensor]) -> RunInput:
    fields = {field: packed.get(f"{part}.{field}") for field in _FIELDS}
    read = fields["tokens"] if fields["residual"] is None else fields["residual"]
    assert read is not None
    n_keys, real = read.shape[1], fields["real_keys"]
    positions = places(n_keys, real, read.device)
    return RunInput(**fields, positions=positions, key_positions=positions, n_keys=n_keys)


def plain(x: Shaped[Tensor, "*axes"]) -> Shaped[Tensor, "*axes"]:
    """Without gradients, and with the strides that its shape has by itself.

    torch compiles anew for others, also where they mean the same, and for inference tensors.
    """
    x = x.clone() if x.is_inference() else x.detach()
    return x.reshape(-1).view(x.shape)
