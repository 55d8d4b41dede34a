"""One model over several devices: where its parts lie, and what moves between them in a run.

The residual stream moves where one block lies on another device than the one before it, and what
all layers share (masks, rotations, biases) is made once and copied to each device once a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from interp.components.block import CrossContext
from interp.components.context import AttentionContext
from interp.devices.device_map import DeviceMap, choose_devices
from interp.devices.memory import free_memory, readable
from interp.errors import require
from interp.initialisation import fill_constants
from interp.run.recording import WHAT_HELPS, largest

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

_HEAD = ("unembed", "mlm_head", "pooler")


@dataclass(frozen=True, slots=True)
class Placement:
    """The device of every part of a model, in the order in which they compute.

    Attributes:
        devices: `embed`, `blocks.0`, …, `ln_final`, `unembed` → device.
    """

    devices: Mapping[str, torch.device]

    def of(self, name: str) -> torch.device:
        """The device of a weight, a module or a hook, by its full name."""
        return self.devices[part_of(name)]

    def __str__(self) -> str:
        """`cuda:0 (embed … blocks.11), cuda:1 (blocks.12 … unembed)`."""
        runs: list[tuple[torch.device, list[str]]] = []
        for part, device in self.devices.items():
            if not runs or runs[-1][0] != device:
                runs.append((device, []))
            runs[-1][1].append(part)
        return ", ".join(
            f"{device} ({parts[0] if len(parts) == 1 else f'{parts[0]} … {parts[-1]}'})"
            for device, parts in runs
        )


def part_of(name: str) -> str:
    """The part that a weight, a module or a hook belongs to, by its full name."""
    stack, block, rest = name.rpartition("blocks.")
    if block:
        return f"{stack}{block}{rest.partition('.')[0]}"
    pieces = name.split(".")
    if pieces[0] in _HEAD:
        return "unembed"
    if "ln_final" in pieces:
        return ".".join(pieces[: pieces.index("ln_final") + 1])
    return "embed"


def part_sizes(model: HookedTransformer) -> dict[str, int]:
    """Every part in the order in which they compute → bytes of its weights."""
    sizes = {"embed": 0}
    for prefix, stack in _stacks(model):
        sizes |= {f"{prefix}blocks.{i}": 0 for i in range(len(stack.blocks))}
        sizes[f"{prefix}ln_final"] = 0
    sizes["unembed"] = 0
    for name, parameter in model.named_parameters():
        sizes[part_of(name)] += parameter.nbytes
    return sizes


def plan_placement(model: HookedTransformer, device_map: DeviceMap) -> Placement:
    """Where `device_map` puts this model's parts. Nothing is moved yet.

    Raises:
        InputError: as `choose_devices`.
    """
    tied = model.cfg.tie_word_embeddings
    return Placement(choose_devices(part_sizes(model), device_map, tied))


def move(model: HookedTransformer, placement: Placement) -> None:
    """Move every weight to its device."""
    for name, module in model.named_modules():
        if name:
            device = placement.of(name)
            module._apply(lambda weight, device=device: weight.to(device), recurse=False)


def materialise(model: HookedTransformer, placement: Placement) -> None:
    """Give a model that was made on `meta` memory on its devices: constants, or still to fill."""
    for name, module in model.named_modules():
        if name:
            module.to_empty(device=placement.of(name), recurse=False)
    fill_constants(model)


def placement_now(model: HookedTransformer, before: Placement | None) -> Placement | None:
    """Where a model's parts lie; None: all on one device.

    `before` is what was known of it. It says where a norm without weights computes.
    """
    found: dict[str, torch.device] = {}
    for name, parameter in model.named_parameters():
        found.setdefault(part_of(name), parameter.device)
    if len(set(found.values())) <= 1:
        return None
    if before is not None and all(before.devices[part] == at for part, at in found.items()):
        return before
    devices: dict[str, torch.device] = {}
    here = found["embed"]
    for part in part_sizes(model):
        devices[part] = here = found.get(part, here)
    return Placement(devices)


def tell_stacks(model: HookedTransformer) -> None:
    """Let each stack know where its blocks and its norm lie."""
    for prefix, stack in _stacks(model):
        if model.placement is None:
            stack._block_devices = stack._norm_device = None
            continue
        devices = model.placement.devices
        stack._block_devices = [devices[f"{prefix}blocks.{i}"] for i in range(len(stack.blocks))]
        stack._norm_device = devices[f"{prefix}ln_final"]


def require_one_device(model: Any, what: str) -> None:
    """Raise `InputError` where a model lies on several devices, naming them."""
    placement = getattr(model, "placement", None)
    require(
        placement is None,
        f"{what} must have the whole model on one device (model.to(device)). "
        f"This model is on {placement}",
    )


def require_room(sizes: Mapping[str, int], placement: Placement) -> None:
    """Raise `InputError` if records of these bytes by hook are more than their devices have left.

    Devices of which nothing tells what they have left are taken to have enough.
    """
    for device in dict.fromkeys(placement.devices.values()):
        here = {name: size for name, size in sizes.items() if placement.of(name) == device}
        free, total = free_memory(device), sum(here.values())
        require(
            free is None or total <= free,
            f"recording must keep no more on {device} than it has left ({readable(free or 0)}). It "
            f"would keep {readable(total)}; largest: {largest(here)}. {WHAT_HELPS} device= keeps "
            "it elsewhere",
        )


class Placed:
    """The methods of `HookedTransformer` that spread it over devices."""

    placement: Placement | None

    def to_devices(self, device_map: DeviceMap) -> HookedTransformer:
        """Spread this model over several devices, in place; `to(device)` brings it together again.

        Each hook then sees tensors on the device of its layer, caches keep them there (or on
        `run_with_cache`'s `device`), and logits are on the unembedding's. Tokens may be anywhere.
        Running, recording, hooks, losses, gradients and generation work as on one device. What
        combines weights or records of several layers needs them on one: it raises an error.

        Args:
            device_map: `"balanced"`, `"auto"`, a list of devices, or a dictionary from parts
                (`embed`, `blocks.0` or a glob, `ln_final`, `unembed`) to devices: see
                `interp.devices.device_map.DeviceMap`.

        Raises:
            InputError: for a map that breaks one of its rules, before anything is moved.
        """
        model: Any = self
        placement = plan_placement(model, device_map)
        move(model, placement)
        self._note_dtype_and_devices(placement)
        return model

    def _note_dtype_and_devices(self, planned: Placement | None) -> None:
        model: Any = self
        self.placement = placement_now(model, planned)
        tell_stacks(model)
        model.cfg.device, model.cfg.dtype = model.W_E.device, model.W_E.dtype
        devices = None if self.placement is None else self.placement.devices.values()
        model.cfg.n_devices = 1 if devices is None else len(set(devices))


class SharedContexts:
    """What all layers of a run share, on each device that asks for it.

    Args:
        contexts: Of layers without (False) and with a window (True), where they were made.
        source: What a decoder's layers read of the encoder.
    """

    def __init__(self, contexts: dict[bool, AttentionContext], source: CrossContext | None) -> None:
        self._made = contexts, source
        self._at: dict[torch.device, tuple[dict[bool, AttentionContext], CrossContext | None]] = {}

    def on(self, device: torch.device) -> tuple[dict[bool, AttentionContext], CrossContext | None]:
        """Contexts and source on this device, copied there once."""
        if device not in self._at:
            contexts, source = self._made
            copies = _Copies(device)
            self._at[device] = (
                {local: copies.of_context(context) for local, context in contexts.items()},
                None if source is None else copies.of_source(source),
            )
        return self._at[device]


class _Copies:
    """Copies on one device; a tensor that several things hold is copied once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._made: dict[int, Tensor] = {}

    def of(self, x: Tensor) -> Tensor:
        if id(x) not in self._made:
            self._made[id(x)] = x.to(self._device)
        return self._made[id(x)]

    def of_context(self, context: AttentionContext) -> AttentionContext:
        mask, turn = context.mask, context.rotation
        places = mask.places
        return AttentionContext(
            mask=replace(
                mask,
                device=self._device,
                real_keys=None if mask.real_keys is None else self.of(mask.real_keys),
                places=None if places is None else (self.of(places[0]), self.of(places[1])),
            ),
            rotation=None if turn is None else turn.to(self._device),
            bias=None if context.bias is None else self.of(context.bias),
            added_to_qk=None if context.added_to_qk is None else self.of(context.added_to_qk),
        )

    def of_source(self, source: CrossContext) -> CrossContext:
        return CrossContext(self.of(source.residual), self.of_context(source.attention))


def _stacks(model: HookedTransformer) -> list[tuple[str, Any]]:
    """The prefix and the module of each stack of blocks."""
    if model.cfg.architecture == "encoder-decoder":
        return [("encoder.", model.encoder), ("decoder.", model.decoder)]
    return [("", model)]
